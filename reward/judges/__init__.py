"""Judges: models that are asked which response is better, or how good one is.

A question is a Request (exchange.py); an endpoint or a model in process answers it. What is asked
is a rubric's, a comparison's or a constitution's business, one file each. A judge's failure is
never a number. Not reward models (reward/model.py), and not verifiers.
"""
