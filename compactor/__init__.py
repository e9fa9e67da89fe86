"""Hot parts to hour files to certified daily files."""
