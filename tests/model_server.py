"""A small OpenAI-compatible server for tests, with real models, adapters, and this program's own decoding behind it. It
understands what vLLM does of the fields that are sent, and can be told to fail."""

import itertools
import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from response_generator.data.datasets import Dialogue
from response_generator.generation.continuous_batching import write_replies
from response_generator.generation.generation_requests import BatchLimit, GenerationRequest, SamplingParams, Tokens
from response_generator.modeling import inference
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter

BASE = "base"
REFUSED, ERROR, BUSY, CUT, BROKEN, ABORTED = "refused", "error", "busy", "cut", "broken", "aborted"  # faults
DEAD = "dead"  # the server ends at this request, and does not come back by itself
HELD = "held"  # waits until the gate is opened


class ModelServer:
    """Serves the base model and the adapters by their names, on the same port whenever it is started.

    What it can be told: `faults`, one for each of the next completions, None for none; `gate`, for which those with
    the fault HELD wait, and which opens by itself when `opens_at` completions are at work; `key`, which it then asks
    for; `context`; `shift`, added to each id of /tokenize; `counts_wrongly`, its prompt_tokens; and what it does and
    has: `applies_adapters`, `has_logprobs`, `has_echo`, `has_tokenize`, `returns_ids`, `keeps_seed`, `lists_parents`.

    What it counts: `asked`, the bodies of all completions; `at_once`, the most that it worked on at once;
    `connections`.
    """

    def __init__(self, base: str, adapters: dict[str, str], dtype: torch.dtype = torch.float32):
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        self.adapters = {name: AdapterFile.read(Path(folder)) for name, folder in adapters.items()}
        for name, adapter in self.adapters.items():
            self.model = add_adapter(self.model, adapter, name)
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.computing, self.counting = threading.Lock(), threading.Lock()
        self.port, self.http, self.working = 0, None, 0
        self.reset()

    def reset(self) -> None:
        self.applies_adapters = self.has_logprobs = self.has_echo = self.has_tokenize = True
        self.returns_ids = self.keeps_seed = self.lists_parents = True
        self.shift, self.context, self.key, self.counts_wrongly = 0, 512, None, False
        self.faults: deque[str | None] = deque()
        self.gate, self.opens_at = threading.Event(), 0
        self.asked: list[dict[str, Any]] = []
        self.at_once = self.connections = 0
        self.draws = itertools.count(1000)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (Handler,), {"server_of_test": self})
        self.http = HTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
            self.http = None

    def list_models(self) -> list[dict[str, Any]]:
        cards = [{"id": BASE, "root": "folder/base", "parent": None, "max_model_len": self.context}]
        parent = BASE if self.lists_parents else None
        return cards + [{"id": name, "root": f"folder/{name}", "parent": parent} for name in self.adapters]

    @torch.inference_mode()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt, add_special_tokens=False).input_ids
        with self.computing, self.use(body["model"]):
            choices = [
                {"index": number, "text": self.tokenizer.decode(tokens), "finish_reason": reason}
                | ({"token_ids": tokens} if self.returns_ids and body.get("return_token_ids") else {})
                for number, (tokens, reason) in enumerate(self.write(ids, body))
            ]
            if "prompt_logprobs" in body and self.has_logprobs:
                logps = self.compute_logps(ids)
                choices[0]["prompt_logprobs"] = [
                    None if logp is None else {str(token): {"logprob": logp}}
                    for token, logp in zip(ids, logps, strict=True)
                ]
            if body.get("echo") and self.has_echo:
                choices[0]["logprobs"] = {"token_logprobs": [*self.compute_logps(ids), -1.0]}
        return {"choices": choices, "usage": {"prompt_tokens": len(ids) + self.counts_wrongly}}

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        adapter = self.adapters.get(name) if self.applies_adapters else None
        with inference.use_adapter(self.model, adapter, name):
            yield

    def write(self, ids: Tokens, body: dict[str, Any]) -> list[tuple[Tokens, str]]:
        (eos,) = body.get("stop_token_ids", [self.tokenizer.eos_token_id])
        config = GenerationConfig(
            max_new_tokens=body["max_tokens"],
            min_new_tokens=body.get("min_tokens", 0),
            do_sample=body["temperature"] > 0,
            temperature=body["temperature"] or 1.0,
            top_k=max(0, body.get("top_k", 0)),
            top_p=body.get("top_p", 1.0),
            repetition_penalty=body.get("repetition_penalty", 1.0),
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=eos,
        )
        seed = body["seed"] if self.keeps_seed and "seed" in body else next(self.draws)
        samples = body.get("n", 1)
        request = GenerationRequest(Dialogue(0, [], None, ""), "", ids, [])
        (replies,) = write_replies(self.model, [request], SamplingParams(config, seed, samples), BatchLimit(samples))
        return [(tokens, "stop" if tokens[-1] == eos else "length") for tokens in replies.samples]

    def compute_logps(self, ids: Tokens) -> list[float | None]:
        logps = self.model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
        return [None, *logps.gather(-1, torch.tensor(ids)[1:, None])[:, 0].tolist()]


class HTTPServer(ThreadingHTTPServer):
    daemon_threads = allow_reuse_address = True

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client has gone
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_test: ModelServer

    def setup(self) -> None:
        super().setup()
        with self.server_of_test.counting:
            self.server_of_test.connections += 1

    def log_message(self, *_) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        pages = {"/v1/models": {"data": self.server_of_test.list_models()}, "/version": {"version": "of the test"}}
        if not self.may_enter():
            self.send_error_answer(401, "Unauthorized")
        elif self.path in pages:
            self.send_answer(200, pages[self.path])
        else:
            self.send_error_answer(404, "Not Found")

    def do_POST(self) -> None:
        server = self.server_of_test
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.may_enter():
            self.send_error_answer(401, "Unauthorized")
        elif self.path == "/tokenize" and server.has_tokenize:
            ids = server.tokenizer(body["prompt"], add_special_tokens=body["add_special_tokens"]).input_ids
            self.send_answer(200, {"tokens": [token + server.shift for token in ids], "count": len(ids)})
        elif self.path == "/v1/completions":
            self.complete(body)
        else:
            self.send_error_answer(404, "Not Found")

    def may_enter(self) -> bool:
        key = self.server_of_test.key
        return key is None or self.headers["Authorization"] == f"Bearer {key}"

    def complete(self, body: dict[str, Any]) -> None:
        server = self.server_of_test
        with server.counting:
            server.asked.append(body)
            server.working += 1
            server.at_once = max(server.at_once, server.working)
            if server.working >= server.opens_at > 0:
                server.gate.set()
            fault = server.faults.popleft() if server.faults else None
        try:
            if fault == HELD:
                server.gate.wait()
            if not self.fail(fault):
                answer = server.complete(body)
                if fault == ABORTED:
                    answer["choices"][0]["finish_reason"] = "abort"
                if body.get("stream"):
                    self.stream(answer["choices"], is_cut=fault == CUT)
                else:
                    self.send_answer(200, answer, is_cut=fault == CUT)
        finally:
            with server.counting:
                server.working -= 1

    def fail(self, fault: str | None) -> bool:
        """Answers in the way of a fault; whether it did."""
        statuses = {REFUSED: 400, ERROR: 500, BUSY: 429}
        if fault in statuses:
            self.send_error_answer(statuses[fault], f"{fault} by the test")
        elif fault in (BROKEN, DEAD):
            self.close_connection = True
            if fault == DEAD:
                self.server_of_test.stop()
            self.connection.close()
        return fault in (*statuses, BROKEN, DEAD)

    def send_error_answer(self, status: int, message: str) -> None:
        self.send_answer(status, {"error": {"message": message}})

    def send_answer(self, status: int, answer: dict[str, Any], is_cut: bool = False) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if is_cut else content)
        if is_cut:
            self.close_connection = True

    def stream(self, choices: list[dict[str, Any]], is_cut: bool) -> None:
        """Sends the replies token by token."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        for choice in choices:
            for place, token in enumerate(choice["token_ids"]):
                if is_cut and place == 2:
                    return
                reason = choice["finish_reason"] if place == len(choice["token_ids"]) - 1 else None
                part = {"index": choice["index"], "token_ids": [token], "finish_reason": reason}
                self.wfile.write(f"data: {json.dumps({'choices': [part]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
