"""The page of app.py in the browser."""
