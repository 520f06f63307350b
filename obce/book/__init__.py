"""What the chapters need and nothing else imports: checkers of exercises, figures."""
