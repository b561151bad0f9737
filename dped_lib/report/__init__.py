"""Save and draw figures and tables in one style, with the numbers behind them."""
