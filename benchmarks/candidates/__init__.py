"""Engines that were considered for the work of `stages.engines.cpu`, each behind the project's engine protocol."""
