"""What trainings came to: records of each, a table that compares them, figures, and a page that shows all of it."""
