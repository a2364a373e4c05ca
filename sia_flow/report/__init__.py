"""Reports: the closing table, the comparison of arms, plots and Markdown, all from records."""
