"""The tokenizer of a run: the adapter's own, as its file has it, or the base model's."""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from response_generator.config.schema import ModelArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.errors import InputError
from response_generator.modeling.adapters import AdapterFile

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(arguments: ModelArguments, adapter: AdapterFile | None) -> PreTrainedTokenizerBase:
    """The adapter's own tokenizer where it brings one, else the base's, with the special tokens of the args.

    Raises:
        InputError: when the tokenizer cannot be loaded, has no EOS or no pad token of its own, or writes other tokens
            than the adapter's tokenizer.json.
    """
    own = adapter is not None and adapter.has_tokenizer
    source = str(adapter.folder) if own else arguments.base_model
    key = "adapter" if own else "base_model"
    try:
        if own and (adapter.folder / TOKENIZER_FILE).is_file():
            # Not AutoTokenizer: for Llama, among others, transformers builds another tokenizer than the one in this
            # file, with other tokens for the same text.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
        else:
            trust = arguments.from_pretrained.get("trust_remote_code", False)
            tokenizer = AutoTokenizer.from_pretrained(**from_pretrained_keywords(source), trust_remote_code=trust)
    except Exception as error:  # tokenizers' own is a bare one
        raise InputError(f"{key}: {source}: its tokenizer cannot be loaded ({error}); fetch it again") from error
    try:
        tokenizer.add_special_tokens(dict(arguments.chat_template.special_tokens))
    except (ValueError, TypeError) as error:
        raise InputError(f"chat_template.special_tokens: {error}") from error
    if tokenizer.eos_token is None:
        raise InputError(f"{key}: {source}: its tokenizer has no eos token")
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        raise InputError(
            f"chat_template.special_tokens: the tokenizer of {source} pads with "
            f"{tokenizer.pad_token or 'nothing'}; set pad_token to a token other than {tokenizer.eos_token}"
        )
    if own:
        check_token_ids(tokenizer, adapter.folder)
    return tokenizer


def check_token_ids(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Compares a loaded tokenizer with the tokenizer.json of its folder on short texts: special tokens, the first word
    after each, several spaces, and an EOS after a space.

    Raises:
        InputError: when the loaded tokenizer gives other token ids.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return
    as_written = Tokenizer.from_file(str(file))
    as_written.no_truncation()
    as_written.no_padding()
    known = as_written.get_vocab()
    as_written.add_special_tokens([token for token in tokenizer.get_added_vocab() if token not in known])
    special = [token.content for token in as_written.get_added_tokens_decoder().values()]
    texts = ["Hello", " Hello", "a   b", "fine . It ' s", "\n", f"Hello . {tokenizer.eos_token}\n"]
    texts += [f"{token}{space}Hello ." for token in special for space in ("", " ")]
    for text in texts:
        expected = as_written.encode(text, add_special_tokens=False).ids
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        if found != expected:
            raise InputError(
                f"{folder}: the loaded tokenizer encodes {text!r} as {found}, its {TOKENIZER_FILE} as {expected}: the "
                f"adapter has not learned these tokens; are chat_template.special_tokens those of its training?"
            )
