// The server keeps the dialogue; this page sends what the user does and shows the dialogue that comes back.
const form = document.getElementById("form");
const fields = form.elements;
const turns = document.getElementById("turns");
const errorLine = document.getElementById("error");
const stopButton = document.getElementById("stop");
const sendButton = document.getElementById("send");
const NO_ANSWER = "the server does not answer";
const ID_KEY = "dialogue"; // in the session storage, which a reload of this tab keeps
let state = null;
let running = null; // the AbortController of the request that is being answered
let requests = 0; // sent so far
let applied = 0; // number of the request whose answer is shown

function post(action, values = {}, signal = undefined) {
  const body = JSON.stringify({ dialogue: state ? state.dialogue : "", ...values });
  return fetch(action, { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
}

async function readError(response) {
  return (await response.json()).error;
}

// Calls `receive` with each line of JSON as it arrives.
async function readLines(response, receive) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) receive(JSON.parse(line));
  }
}

// Sends an action that writes no reply, and shows the dialogue after it, unless a newer answer is there already. Returns whether it succeeded.
async function change(action, values = {}) {
  const number = ++requests;
  let message = "";
  try {
    const response = await post(action, values);
    const answer = response.ok ? await response.json() : null;
    if (!answer) message = await readError(response);
    else if (number > applied) [state, applied] = [answer, number];
  } catch {
    message = NO_ANSWER;
  }
  if (!running) showDialogue();
  showError(message);
  return !message;
}

// Sends an action that writes replies, and shows their parts as they arrive. Returns whether it succeeded.
async function write(action, values = {}) {
  const number = ++requests;
  running = new AbortController();
  showError("");
  showBusy(true);
  let answer = null;
  let message = "";
  try {
    const response = await post(action, values, running.signal);
    if (response.ok) {
      const addPart = showParts(action === "/say" ? values.text : null);
      await readLines(response, (line) => {
        if (line.error) message = line.error;
        else if (line.dialogue) answer = line;
        else addPart(line.adapter, line.text);
      });
      if (!answer && !message) message = "the server stopped in the middle of the reply";
    } else message = await readError(response);
  } catch (error) {
    message = error.name === "AbortError" ? "stopped; the dialogue is as it was before" : NO_ANSWER;
  }
  running = null;
  if (answer) [state, applied] = [answer, number];
  showDialogue();
  showBusy(false);
  showError(message);
  fields.text.focus();
  return !message;
}

function showError(message) {
  errorLine.textContent = message;
  errorLine.hidden = !message;
}

// While a reply is written, only Stop can be used.
function showBusy(isBusy) {
  for (const element of [...fields, ...turns.querySelectorAll("button")]) element.disabled = isBusy;
  turns.setAttribute("aria-busy", isBusy);
  stopButton.disabled = false;
  stopButton.hidden = !isBusy;
  sendButton.hidden = isBusy;
  if (isBusy) stopButton.focus();
  else showAvailable();
}

function showAvailable() {
  for (const button of form.querySelectorAll(".after-reply")) button.disabled = !state || !state.turns.length;
}

function createSaid(text, emotion) {
  const said = createElement("div", undefined, "said");
  said.append(createElement("div", emotion ? `you, ${emotion}` : "you", "speaker"), createElement("p", text));
  return said;
}

// Adds empty replies, and returns a function that appends a part of an adapter's reply. `text` is a new message; without
// one, the replies replace the last ones.
function showParts(text) {
  if (text !== null) turns.append(createSaid(text, ""));
  else turns.lastElementChild?.remove();
  const answers = createElement("div", undefined, "answers");
  const paragraphs = {};
  turns.append(answers);
  return (adapter, part) => {
    if (!paragraphs[adapter]) {
      const answer = createReply(adapter, "", state.wait_note, "");
      paragraphs[adapter] = answer.querySelector("p");
      answers.append(answer);
    }
    paragraphs[adapter].append(part);
    answers.scrollIntoView({ block: "nearest" });
  };
}

function createAnswers(turn, isLast) {
  const answers = createElement("div", undefined, "answers");
  const isCompared = turn.replies.length > 1;
  for (const reply of turn.replies) {
    const outcome = reply.is_followed === null ? "" : reply.is_followed ? "right" : "wrong";
    const isChosen = isCompared && reply.adapter === turn.chosen;
    const answer = createReply(reply.adapter, reply.text, reply.facts, isChosen ? `${outcome} chosen` : outcome);
    if (isCompared && isLast && !isChosen) {
      const button = createElement("button", `Continue with ${reply.adapter}`);
      button.type = "button";
      button.addEventListener("click", () => change("/choose", { adapter: reply.adapter }));
      answer.append(button);
    }
    answers.append(answer);
  }
  return answers;
}

function showDialogue() {
  turns.replaceChildren();
  if (!state) return;
  state.turns.forEach((turn, at) => {
    turns.append(createSaid(turn.text, turn.emotion), createAnswers(turn, at === state.turns.length - 1));
  });
  for (const [name, values] of [["adapter", state.adapters], ["emotion", state.emotions], ["user_emotion", state.user_emotions]]) {
    fields[name].replaceChildren(...values.map((value) => new Option(value, value)));
    fields[name].value = state[name];
    fields[name].closest("label").hidden = !values.length; // without labels there is nothing to choose
  }
  turns.lastElementChild?.scrollIntoView({ block: "nearest" });
  showAvailable();
}

async function send() {
  const text = fields.text.value;
  if (!text.trim() || running) return;
  fields.text.value = "";
  const isSent = await write("/say", { text, all_adapters: fields.all_adapters.value === "all" });
  if (!isSent) fields.text.value = text;
}

async function undo() {
  const text = state.turns.at(-1).text;
  if (await change("/undo")) fields.text.value = text;
}

async function download() {
  const response = await post("/row");
  if (!response.ok) return showError(await readError(response));
  const link = createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = "chat.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers begin to read it later
}

function askAgain() {
  const seed = fields.seed.value.trim();
  if (seed && !/^\d{1,10}$/.test(seed)) return showError("seed: needed: a whole number, or nothing for the next seed");
  write("/again", seed ? { seed: Number(seed) } : {});
}

// After a reload the tab goes on with its dialogue, if the server still has it.
async function start() {
  const kept = sessionStorage.getItem(ID_KEY);
  if (kept) state = { dialogue: kept, turns: [] };
  const isKept = kept && (await change("/show"));
  if (!isKept) {
    state = null;
    await change("/open");
  }
  if (state) sessionStorage.setItem(ID_KEY, state.dialogue);
}

form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
fields.text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
for (const name of ["adapter", "emotion", "user_emotion"]) {
  fields[name].addEventListener("change", () => change("/settings", { [name]: fields[name].value }));
}
stopButton.addEventListener("click", () => running?.abort());
document.getElementById("again").addEventListener("click", askAgain);
document.getElementById("compare").addEventListener("click", () => write("/compare"));
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("new").addEventListener("click", () => change("/new"));
document.getElementById("download").addEventListener("click", download);
start();
