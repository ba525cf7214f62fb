"""The paper's tables and figures as data: what is run, at which scale, and what the paper reports."""
