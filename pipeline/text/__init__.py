"""Text for people: amounts, values in messages, and what others wrote made safe to print."""
