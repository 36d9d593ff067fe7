"""The scraping of metrics pages: started here, done by the extension's threads, its troubles made visible."""
