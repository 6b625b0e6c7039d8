"""WebShop as a web site: served for browsers and published clients, and played over HTTP."""
