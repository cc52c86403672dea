"""Speed, as one JSON line a benchmark: `python -m tests.benchmarks [name ...]`, or `make bench`.

A line has `name`, `ratio` (higher is better), `goal` (its lower bound), `ok`, and what it was made
of; the exit code is 1 when one is not ok. The machine need not be quiet:

- A command is started once unmeasured, so that its byte code is compiled, then several times; the
  fastest counts, since other processes can only make it slower. Where the cores are busy all the
  time even that is too slow: `cpu_seconds` then says what the command itself needs, and
  `interpreter_seconds`, the same for `python -c pass`, how slow the machine is.
- Training is compared with a bare loop inside one process, alternating step by step, so that both
  get the same share of the machine; the median over all pairs of steps counts, and the quartiles
  are printed. A difference between the losses of the two makes the measurement void.
- TRL's commands are programs of their own and cannot alternate step by step: whole runs take turns,
  and the fastest counts, of the seconds between log lines one by one. It takes nine minutes.

Nothing is written but to a temporary folder: neither results nor byte code of the checkout.
"""
