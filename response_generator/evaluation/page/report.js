"use strict";
// The browser of replies. Texts of models and data reach the page as text nodes alone, never as markup.
const { models, rows } = JSON.parse(document.getElementById("rows").textContent);
const filters = document.getElementById("filters").elements;
const list = document.getElementById("replies");
const more = document.getElementById("more");
const AT_ONCE = 50;
const paired = models.length > 1;
const sampled = rows.some((row) => row.sample);
let found = [];
let shown = 0;

const outcomes = paired
  ? { fixed: [false, true], broken: [true, false], "both right": [true, true], "both wrong": [false, false] }
  : { right: [true, true], wrong: [false, false] };
const orders = paired
  ? { "as in the data": 0, "margin, most gained first": -1, "margin, most lost first": 1 }
  : { "as in the data": 0, "most probable target first": -1, "least probable target first": 1 };
for (const name of Object.keys(outcomes)) filters.outcome.append(new Option(name, name));
for (const name of Object.keys(orders)) filters.order.append(new Option(name, name));

function element(kind, words, style) {
  const made = document.createElement(kind);
  if (words !== undefined) made.textContent = words;
  if (style) made.className = style;
  return made;
}

const isRight = (row, reply) => reply.emotion === row.target;
const compared = () => (filters.model ? Number(filters.model.value) : models.length - 1);

// How much more probable the classifier finds the target emotion in the compared model's reply than in the first's.
function margin(row) {
  const own = row.replies[compared()].target;
  return paired ? own - row.replies[0].target : own;
}

const signed = (number) => (number > 0 ? "+" : "") + number.toFixed(3);

function outcomeOf(row) {
  const pair = [isRight(row, row.replies[0]), isRight(row, row.replies[compared()])];
  return Object.keys(outcomes).find((name) => outcomes[name].every((right, at) => right === pair[at]));
}

const texts = rows.map((row) =>
  [...row.history.map((turn) => turn.text), row.gold.text, ...row.replies.map((reply) => reply.text)]
    .join("\n").toLowerCase());

function turnOf(role, emotion, text) {
  const turn = element("p", undefined, "turn");
  turn.append(element("span", `${role}, ${emotion}: `, "model"), text);
  return turn;
}

function answerOf(name, text, labels, style) {
  const answer = element("div", undefined, `answer ${style}`);
  answer.append(element("div", name, "model"), element("p", text), element("div", labels, "labels"));
  return answer;
}

function articleOf(row) {
  const article = element("article");
  const sample = sampled ? `, sample ${row.sample}` : "";
  const gained = paired ? `, ${outcomeOf(row)}, margin ${signed(margin(row))}` : `, ${outcomeOf(row)}`;
  article.append(element("h3", `row ${row.index}${sample}: target ${row.target}${gained}`));
  for (const turn of row.history) article.append(turnOf(turn.role, turn.emotion, turn.text));
  const answers = element("div", undefined, "answers");
  answers.append(answerOf("gold reply", row.gold.text, `read as ${row.gold.emotion}`, ""));
  row.replies.forEach((reply, at) => {
    const labels = [
      `read as ${reply.emotion} (${reply.score.toFixed(2)})`, reply.gibberish,
      reply.complete ? "complete" : "incomplete", `${reply.tokens} tokens`];
    if (reply.limit) labels.push("stopped by the token limit");
    answers.append(answerOf(models[at], reply.text, labels.join(", "), isRight(row, reply) ? "right" : "wrong"));
  });
  article.append(answers);
  return article;
}

function showMore() {
  list.append(...found.slice(shown, shown + AT_ONCE).map(articleOf));
  shown = Math.min(found.length, shown + AT_ONCE);
  more.hidden = shown === found.length;
}

function update() {
  const words = filters.search.value.trim().toLowerCase();
  found = rows.filter((row, at) =>
    (!filters.emotion.value || row.target === filters.emotion.value) &&
    (!filters.outcome.value || outcomeOf(row) === filters.outcome.value) &&
    (!words || texts[at].includes(words)));
  const direction = orders[filters.order.value];
  if (direction) found.sort((one, other) => direction * (margin(one) - margin(other)));
  document.getElementById("count").textContent = `${found.length} of ${rows.length} rows`;
  list.replaceChildren();
  shown = 0;
  showMore();
}

document.getElementById("filters").addEventListener("input", update);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", showMore);
update();
