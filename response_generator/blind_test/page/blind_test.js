"use strict";
// The page of a blind test, with the elements of browser.js. An answer is {question: option}; a question that was not
// answered is not in it.
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const STORE = `blind test ${sheet.id}`;
const find = (id) => document.getElementById(id);
const { rater, file } = find("save").elements;
let answers = sheet.pairs.map(() => ({}));
let at = 0; // the pair that is shown

const isComplete = (answer) => sheet.questions.every(({ name }) => answer[name]);
const countComplete = () => answers.filter(isComplete).length;
const fieldsets = () => [...document.querySelectorAll("#questions fieldset")];

function showMessage(text) {
  find("message").textContent = text;
}

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ rater: rater.value, at, answers }));
  } catch {
    showMessage("This browser keeps no answers. Save them before you close the page.");
  }
}

// What is kept, or was saved: the answers that this sheet allows; null where it is of another sheet.
function readAnswers(kept) {
  if (!Array.isArray(kept) || kept.length !== sheet.pairs.length) return null;
  return kept.map((answer) => {
    const allowed = sheet.questions.filter(({ name, options }) => options.includes(answer?.[name]));
    return Object.fromEntries(allowed.map(({ name }) => [name, answer[name]]));
  });
}

// The same sheet in another tab: what is answered there counts here, too.
function follow(event) {
  if (event.key !== STORE) return;
  const here = at;
  restore();
  at = here;
  showPair();
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE));
    answers = readAnswers(kept?.answers) ?? answers;
    rater.value = kept?.rater ?? "";
    at = sheet.pairs[kept?.at] ? kept.at : 0;
  } catch {
    // Nothing can be read, so nothing can be kept either; keep() says so.
  }
}

function createQuestion({ name, title, options }) {
  const fieldset = createElement("fieldset");
  const box = createElement("div", undefined, "options");
  fieldset.tabIndex = -1;
  fieldset.append(createElement("legend", title), box);
  options.forEach((option, place) => {
    const label = createElement("label", undefined, "option");
    const input = createElement("input");
    Object.assign(input, { type: "radio", name, value: option, checked: answers[at][name] === option });
    input.addEventListener("change", () => answer(name, option));
    const key = place === options.length - 1 ? "0" : place < 9 ? String(place + 1) : "";
    label.append(input, ...(key ? [createElement("kbd", key)] : []), option);
    box.append(label);
  });
  fieldset.addEventListener("focusin", () => mark(fieldset));
  return fieldset;
}

// The marked question is the one that a number key answers.
function mark(fieldset) {
  for (const each of fieldsets()) each.classList.toggle("current", each === fieldset);
}

function showPair() {
  const { turns, replies } = sheet.pairs[at];
  const box = createElement("div", undefined, "answers");
  box.append(...replies.map((text, side) => createReply(`reply ${"AB"[side]}`, text, "", "")));
  find("pair").replaceChildren(...turns.map(([role, text]) => createTurn(role, "", text)), box);
  find("questions").replaceChildren(...sheet.questions.map(createQuestion));
  mark(fieldsets().find((each) => !each.querySelector(":checked")) ?? fieldsets()[0]);
  find("previous").disabled = at === 0;
  find("next").disabled = at === sheet.pairs.length - 1;
  showProgress();
}

function showProgress() {
  const complete = countComplete();
  find("count").textContent = `dialogue ${at + 1} of ${sheet.pairs.length}; ${complete} answered`;
  find("progress").value = complete;
  find("unanswered").hidden = complete === sheet.pairs.length;
}

function answer(name, option) {
  answers[at][name] = option;
  showMessage(countComplete() === sheet.pairs.length ? "All dialogues are answered. Save your answers." : "");
  keep();
  showProgress();
}

function goTo(pair) {
  if (!sheet.pairs[pair]) return;
  at = pair;
  showPair();
  showMessage("");
  keep();
  find("count").scrollIntoView({ block: "start" });
}

function goToUnanswered() {
  const order = [...answers.keys()].map((step) => (at + 1 + step) % answers.length); // this pair comes last
  goTo(order.find((pair) => !isComplete(answers[pair])));
}

function pressNumber(digit) {
  const all = fieldsets();
  const marked = all.findIndex((each) => each.classList.contains("current"));
  const inputs = [...all[marked].querySelectorAll("input")];
  const input = digit === 0 ? inputs.at(-1) : inputs.slice(0, -1)[digit - 1];
  if (!input) return;
  input.checked = true;
  answer(input.name, input.value);
  (all[marked + 1] ?? find("next")).focus();
}

function pressKey(event) {
  const isTyping = event.target.matches("input:not([type=radio])");
  if (event.repeat || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^\d$/.test(event.key)) pressNumber(Number(event.key));
  else if (event.key === "n") goTo(at + 1);
  else if (event.key === "p") goTo(at - 1);
}

function save() {
  const name = rater.value.trim();
  if (!name) {
    showMessage("Write your name first: it tells your answers from those of others.");
    rater.focus();
    return;
  }
  const link = createElement("a");
  const content = JSON.stringify({ sheet: sheet.id, rater: name, answers }, null, 1);
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = `answers-${name.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers begin to read it later
  showMessage(`Saved ${link.download}: ${countComplete()} of ${sheet.pairs.length} dialogues are answered.`);
}

async function load() {
  const text = await file.files[0].text();
  file.value = "";
  let saved = null;
  try {
    saved = JSON.parse(text);
  } catch {
    return showMessage("This file holds no saved answers.");
  }
  const loaded = saved?.sheet === sheet.id ? readAnswers(saved.answers) : null;
  if (!loaded) return showMessage("This file holds no answers to these dialogues.");
  if (answers.some((each) => Object.keys(each).length) && !confirm("Replace the answers on this page?")) return;
  answers = loaded;
  rater.value = String(saved.rater ?? "");
  goTo(0);
  showMessage(`Loaded ${countComplete()} answered dialogues.`);
}

function clearAnswers() {
  if (!confirm("Clear all answers on this page, and the name?")) return;
  answers = sheet.pairs.map(() => ({}));
  rater.value = "";
  goTo(0);
}

document.addEventListener("keydown", pressKey);
addEventListener("storage", follow);
find("previous").addEventListener("click", () => goTo(at - 1));
find("next").addEventListener("click", () => goTo(at + 1));
find("unanswered").addEventListener("click", goToUnanswered);
find("clear").addEventListener("click", clearAnswers);
find("questions").addEventListener("submit", (event) => event.preventDefault());
find("save").addEventListener("submit", (event) => { event.preventDefault(); save(); });
rater.addEventListener("input", keep);
file.addEventListener("change", load);
restore();
document.querySelector("main").hidden = false;
showPair();
