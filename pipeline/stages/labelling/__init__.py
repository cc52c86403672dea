"""Stage `label` in parts: what may be asked, scoring, comparing, revising."""
