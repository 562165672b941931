"""Corpus -> vocabulary -> tokens -> training -> checkpoint: the whole setup.

What is finished is kept: a next run takes it up.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from minigpt_repl.files import explained
from minigpt_repl.lm import MiniGPTCausalLM
from minigpt_repl.models.causal_lm import text_of
from minigpt_repl.models.checkpoint import save_checkpoint
from minigpt_repl.paths import training_folder
from minigpt_repl.sampling.parameters import Value
from minigpt_repl.sampling.registry import SamplerSpec
from minigpt_repl.training.corpus import load_corpus
from minigpt_repl.training.dataset import (
    Text,
    prepare_text,
    steps_per_epoch,
    training_data,
)
from minigpt_repl.training.devices import (
    alone,
    check_agreed,
    idle_gpus,
    in_any_process,
    joined,
)
from minigpt_repl.training.progress import SILENT, Progress
from minigpt_repl.training.recipes import (
    DRAFT,
    PATIENCE,
    Length,
    Recipe,
    fitted,
    is_small,
)
from minigpt_repl.training.resume import STATE_FILE, fingerprint, remove_state
from minigpt_repl.training.setup_options import Setup
from minigpt_repl.training.trainable import (
    Evaluation,
    build_model,
    in_float32,
    trainable,
)
from minigpt_repl.training.trainer import Plan, Run, Trainer
from minigpt_repl.version import __version__

CURVE_FILE = "curve.png"
LOG_FILE = "log.csv"

DRAFT_SHARE = 0.25  # of the model's steps or minutes, for its draft model
SAMPLE_LENGTH = 60  # tokens of a sample, `[BOS]` and prompt with them


def set_up(
    setup: Setup,
    progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Do all stages that are not done yet, and save the checkpoint.

    Returns:
        The model's training, or the draft's if that was stopped. If it was stopped,
        its state is saved and no checkpoint was written in its place.

    Raises:
        MiniGPTError: in one line, what is wrong and what to do.
    """
    asked = setup.options
    corpus = load_corpus(
        asked.corpus,
        asked.min_length,
        progress,
        asked.encoding,
        asked.tokenizer,
        asked.document,
    )
    text = prepare_text(corpus, setup.recipe.vocabulary_size, asked.lowercase, progress)
    setup = _fitted(setup, text, progress)
    # Only now: what comes before may take one machine longer than another.
    with joined(setup.cluster):
        if setup.cluster is not None:
            cluster, count = setup.cluster, keras.distribution.get_device_count()
            rest = "" if setup.is_chief else "; process 0 shows the rest"
            progress.say(
                f"process {cluster.process_id} of {cluster.num_processes} has joined: "
                f"{count} devices in all{rest}"
            )
            check_agreed(
                _what_is_trained(setup, text),
                "the processes were given different texts, options or states: start "
                "all with the same ones, and --resume with --out where all can read it",
            )
            should_stop = in_any_process(should_stop)
        if not setup.is_chief:
            progress = SILENT
        return _train_and_save(_Training(setup, text, progress, should_stop))


def _fitted(setup: Setup, text: Text, progress: Progress) -> Setup:
    """The setup in a size that the text can fill; says how large the text is."""
    tokens, size = len(text.train.ids), text.corpus.train.size
    progress.say(
        f"text: {len(text.train):,} pieces, {tokens:,} tokens of "
        f"{len(text.vocabulary):,} kinds, {size / max(tokens, 1):.2f} bytes a token"
    )
    if not is_small(tokens) or setup.recipe.name != "default":
        return setup
    recipe = setup.recipe
    if not setup.is_resumed:
        recipe = fitted(recipe, tokens, setup.options.to_json())
    patience = setup.options.patience or PATIENCE
    options = replace(setup.options, patience=patience)
    progress.say(
        f"a small text: {recipe.num_layers} layers of width {recipe.hidden_dim}, "
        f"dropout {recipe.dropout:g}, batches of {recipe.batch_size}; it is read "
        f"{recipe.epochs} times at most (--epochs), fewer where {patience} evaluations "
        "bring no new best (--patience)"
    )
    return replace(setup, options=options, recipe=recipe, is_small=True)


def _train_and_save(training: "_Training") -> Run:
    """Train the model and its draft, and save both."""
    setup, text, progress = training.setup, training.text, training.progress
    folder = training_folder(setup.out)
    if unused := idle_gpus():
        progress.say(
            f"TensorFlow trains on one GPU, {unused} more stay idle: KERAS_BACKEND=jax "
            "uses all (docs/scaling.md)"
        )
    causal_lm, run = training.train(setup.recipe, folder)
    if run.was_stopped:
        return run
    seed = setup.options.seed
    record = training_record(setup.recipe, seed, text, run)
    model = in_float32(causal_lm)
    if setup.is_chief:
        save_checkpoint(setup.out, model, record)
    if setup.options.plot and setup.is_chief:
        draw_curves(folder / CURVE_FILE, [(setup.recipe.name, run.evaluations)])
        progress.say(f"the curve is in {folder / CURVE_FILE}")
    if setup.options.with_draft:
        recipe = DRAFT.changed(
            vocabulary_size=setup.recipe.vocabulary_size,
            context_length=setup.recipe.context_length,
            all_rows=setup.recipe.all_rows,
        )
        progress.say("now the draft model, which guesses for speculative decoding:")
        draft, draft_run = training.train(recipe, folder / "draft", DRAFT_SHARE)
        if draft_run.was_stopped:
            return draft_run
        record["draft"] = training_record(recipe, seed, text, draft_run)
        draft = in_float32(draft)
        if setup.is_chief:
            save_checkpoint(setup.out, model, record, draft)
    if setup.is_chief:
        remove_state(folder / "draft")
        remove_state(folder)
    return run


@dataclass(frozen=True)
class _Training:
    """What the training of the model and that of its draft have in common."""

    setup: Setup
    text: Text
    progress: Progress
    should_stop: Callable[[], bool]

    def train(
        self, recipe: Recipe, folder: Path, share: float = 1.0
    ) -> tuple[MiniGPTCausalLM, Run]:
        """A new model, trained for a share of the time or the steps asked for.

        Its state and its log are in the folder.
        """
        options, progress = self.setup.options, self.progress
        tokenizer = self.text.vocabulary.tokenizer()
        causal_lm = build_model(recipe, tokenizer, options.seed)
        if recipe.name == "tutorial":
            causal_lm.summary(print_fn=progress.say)
        data = training_data(recipe, self.text)
        length = self._length(recipe, len(data.train), share)
        plan = Plan(
            length,
            seed=options.seed,
            state_folder=folder,
            patience=options.patience,
            should_stop=self.should_stop,
            progress=progress,
            is_chief=self.setup.is_chief,
            options=options.to_json(),
        )
        callbacks = self._callbacks(recipe.name, causal_lm, folder)
        model = trainable(causal_lm, recipe)
        trainer = Trainer(model, recipe, data, plan, callbacks)
        if options.resume:
            if trainer.resume():
                progress.say(f"{recipe.name}: going on after step {trainer.run.step:,}")
            else:
                progress.say(f"{recipe.name}: nothing saved to go on from, starting")
        return causal_lm, trainer.train()

    def _callbacks(
        self, name: str, causal_lm: MiniGPTCausalLM, folder: Path
    ) -> list[keras.callbacks.Callback]:
        """What the options ask to be written and shown meanwhile."""
        setup, options = self.setup, self.setup.options
        callbacks: list[keras.callbacks.Callback] = []
        if setup.is_chief:
            folder.mkdir(parents=True, exist_ok=True)
            log = str(folder / LOG_FILE)
            callbacks.append(keras.callbacks.CSVLogger(log, append=options.resume))
        if setup.sampler is not None:
            # On all of them, though one shows it: they must stay the same program.
            callbacks.append(
                show_samples(
                    causal_lm,
                    setup.sampler,
                    setup.sampler_values,
                    self.progress,
                    options.prompt,
                    options.seed,
                )
            )
        if options.tensorboard is not None and setup.is_chief:
            logs = str(options.tensorboard / name)
            callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
        return callbacks

    def _length(self, recipe: Recipe, windows: int, share: float) -> Length:
        minutes, steps = self.setup.options.minutes, self.setup.options.steps
        seconds = None if minutes is None else minutes * 60 * share
        if seconds is not None and not self.setup.is_small:
            return Length(seconds=seconds)
        if steps is None:
            epoch = steps_per_epoch(recipe.feeding, windows, recipe.batch_size)
            steps = epoch * self.setup.recipe.epochs
        return Length(max(round(steps * share), 1), seconds)


def _what_is_trained(setup: Setup, text: Text) -> str:
    """Tells this training from all others; what differs would hang or go unnoticed."""
    states = []
    if setup.options.resume:
        for path in sorted(training_folder(setup.out).rglob(STATE_FILE)):
            with explained(path), path.open("rb") as file:
                states.append(hashlib.file_digest(file, "sha256").hexdigest())
    apart = ("corpus", "tensorboard", "plot")  # may lie or be made elsewhere
    options = setup.options.to_json()
    return fingerprint(
        train=text.corpus.train.sha256,
        valid=text.corpus.valid.sha256,
        vocabulary=text.vocabulary.made_from,
        recipe=asdict(setup.recipe),
        options={name: options[name] for name in options if name not in apart},
        states=states,
        version=__version__,
    )


def training_record(recipe: Recipe, seed: int, text: Text, run: Run) -> dict[str, Any]:
    """How a model was made, for its `training.json`."""
    assert run.best and run.on_seen  # a finished run has been evaluated
    corpus = text.corpus
    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "data": {
            "source": corpus.name,
            "sha256": corpus.sha256,
            "min_length": corpus.min_length,
            "lines_read": corpus.lines_read,
            "train_lines": len(corpus.train.texts),
            "valid_lines": len(corpus.valid.texts),
            "train_tokens": len(text.train.ids),
            "valid_tokens": len(text.valid.ids),
        },
        "steps": run.step,
        "wall_seconds": round(run.elapsed, 1),
        "metrics": asdict(run.best),
        "perplexity_on_training_text": run.on_seen.perplexity,
        "history": [asdict(each) for each in run.evaluations],
        "training_losses": run.losses,
        "versions": {
            "python": platform.python_version(),
            "keras": version("keras"),
            "keras-hub": version("keras-hub"),
            "minigpt-repl": __version__,
            "backend": keras.backend.backend(),
        },
    }


def show_samples(
    causal_lm: MiniGPTCausalLM,
    spec: SamplerSpec,
    values: Mapping[str, Value],
    progress: Progress,
    prompt: str = "",
    seed: int = 1,
) -> keras.callbacks.Callback:
    """Shows a text at each evaluation, as the reference example does.

    The causal LM shares its weights with the model in training. One on many devices is
    copied: they would share a single row.
    """
    with alone() as is_copy:
        writer = in_float32(causal_lm) if is_copy else causal_lm
    writer.compile(sampler=spec.make(values, seed))

    def show(epoch: int, logs: Any) -> None:
        with alone():
            if is_copy:
                writer.set_weights(causal_lm.get_weights())
            text = sample_text(writer, prompt)
        progress.say(f"{spec.brief(values)}: {text}")

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def sample_text(causal_lm: MiniGPTCausalLM, prompt: str) -> str:
    """A text by the sampler that the model is compiled with, for people to read."""
    tokenizer = causal_lm.preprocessor.tokenizer
    length = min(SAMPLE_LENGTH, causal_lm.backbone.max_sequence_length)
    packed = causal_lm.preprocessor.generate_preprocess([prompt], length)
    # `generate` takes ids when there is no preprocessor in between, and gives ids.
    preprocessor, causal_lm.preprocessor = causal_lm.preprocessor, None
    try:
        ids = causal_lm.generate(packed, stop_token_ids=None)["token_ids"][0]
    finally:
        causal_lm.preprocessor = preprocessor
    text = text_of(tokenizer)
    known = [int(id) for id in ids[1:] if id < len(text.pieces)]
    shown = [id for id in known if id not in text.special_ids]
    return "".join(text.parts("", (), shown))


def draw_curves(path: Path, curves: Sequence[tuple[str, Sequence[Evaluation]]]) -> None:
    """Draw validation perplexity over steps, of one or more named runs, into a PNG.

    Raises:
        MiniGPTError: if the file can't be written.
    """
    # The object interface: no window, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, evaluations in curves:
        axes.plot(
            [each.step for each in evaluations],
            [each.perplexity for each in evaluations],
            marker=".",
            label=name,
        )
    axes.set(xlabel="steps", ylabel="validation perplexity", yscale="log")
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_minor_formatter("{x:.0f}")
    axes.grid(which="both", alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
