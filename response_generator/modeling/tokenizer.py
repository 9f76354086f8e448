"""Loads the tokenizer of a run: that of the adapter if it has one, otherwise that of the base model."""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from response_generator.config.schema import LoadingArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.errors import InputError
from response_generator.modeling.adapter_file import AdapterFile

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(arguments: LoadingArguments, adapter: AdapterFile | None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of the adapter if it has one, otherwise that of the base model, and adds the special tokens
    of the args.

    Raises:
        InputError: when the tokenizer cannot be loaded, has no EOS token, has no pad token or pads with EOS, or encodes
            text differently from the adapter's tokenizer.json.
    """
    from_adapter = adapter is not None and adapter.has_tokenizer
    source = str(adapter.folder) if from_adapter else arguments.base_model
    key = "adapter" if from_adapter else "base_model"
    try:
        if from_adapter and (adapter.folder / TOKENIZER_FILE).is_file():
            # AutoTokenizer would choose a class that, for Llama and others, rebuilds the tokenizer and encodes the same
            # text differently from this file.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
        else:
            trust_remote_code = arguments.from_pretrained.get("trust_remote_code", False)
            tokenizer = AutoTokenizer.from_pretrained(**from_pretrained_keywords(source, trust_remote_code))
    except Exception as error:  # the library tokenizers raises a plain Exception
        raise InputError(f"{key}: {source}: its tokenizer cannot be loaded ({error}); download it again") from error
    if not isinstance(tokenizer.model_max_length, (int, float)):
        raise InputError(
            f"{key}: {source}: tokenizer_config.json: model_max_length: got {tokenizer.model_max_length!r}; allowed: a "
            f"number"
        )
    try:
        tokenizer.add_special_tokens(dict(arguments.chat_template.special_tokens))
    except (ValueError, TypeError) as error:
        raise InputError(f"chat_template.special_tokens: {error}") from error
    if tokenizer.eos_token is None:
        raise InputError(f"{key}: {source}: its tokenizer has no EOS token; use a model whose tokenizer has one")
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        raise InputError(
            f"chat_template.special_tokens: the pad token of {source} is {tokenizer.pad_token or 'not set'}; set "
            f"pad_token to a token other than {tokenizer.eos_token}"
        )
    if from_adapter:
        check_token_ids(tokenizer, adapter.folder)
    return tokenizer


def check_token_ids(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Compares a loaded tokenizer with the tokenizer.json in its folder on short texts: special tokens, the first word
    after each of them, several spaces in a row, and EOS after a space.

    Raises:
        InputError: when the token ids differ.
    """
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return
    file_tokenizer = Tokenizer.from_file(str(file))
    file_tokenizer.no_truncation()
    file_tokenizer.no_padding()
    vocabulary = file_tokenizer.get_vocab()
    file_tokenizer.add_special_tokens([token for token in tokenizer.get_added_vocab() if token not in vocabulary])
    special_tokens = [token.content for token in file_tokenizer.get_added_tokens_decoder().values()]
    texts = ["Hello", " Hello", "a   b", "fine . It ' s", "\n", f"Hello . {tokenizer.eos_token}\n"]
    texts += [f"{token}{space}Hello ." for token in special_tokens for space in ("", " ")]
    for text in texts:
        expected = file_tokenizer.encode(text, add_special_tokens=False).ids
        token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if token_ids != expected:
            raise InputError(
                f"{folder}: the loaded tokenizer encodes {text!r} as {token_ids}, its {TOKENIZER_FILE} as {expected}; "
                f"the adapter has not learned these tokens; set chat_template.special_tokens as in its training"
            )
