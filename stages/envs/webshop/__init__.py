"""WebShop (Yao et al., arXiv 2207.01206) in pure Python: the same pages, search ranking and reward, without Java or a server."""
