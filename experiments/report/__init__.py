"""A report of many runs: the studies' tables and figures beside the paper's, as Markdown and as one HTML page."""
