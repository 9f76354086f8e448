"use strict";
// The browser of pairs. Texts of models and data are added to the page as text nodes only, never as markup.
const rows = JSON.parse(document.getElementById("rows").textContent);
const filters = document.getElementById("filters").elements;
const list = document.getElementById("pairs");
const more = document.getElementById("more");
const ROWS_AT_ONCE = 50;
let found = [];
let shown = 0;

const hasScores = rows.some((row) => row.chosen_score !== null && row.rejected_score !== null);
const margin = (row) => row.chosen_score - row.rejected_score;
const lead = (row) => row.chosen.length - row.rejected.length;
const orders = {
  "as in the data": null,
  ...(hasScores ? { "smallest margin first": margin, "largest margin first": (row) => -margin(row) } : {}),
  "chosen much shorter first": lead,
  "chosen much longer first": (row) => -lead(row),
};
for (const name of Object.keys(orders)) filters.order.append(new Option(name, name));

function createElement(tag, text, style) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  return element;
}

const texts = rows.map((row) =>
  [...row.history.map((turn) => turn.text), row.chosen, row.rejected].join("\n").toLowerCase());

function createTurn(turn) {
  const element = createElement("p", undefined, "turn");
  const name = turn.emotion ? `${turn.role}, ${turn.emotion}: ` : `${turn.role}: `;
  element.append(createElement("span", name, "speaker"), turn.text);
  return element;
}

function createReply(name, text, labels, style) {
  const answer = createElement("div", undefined, `answer ${style}`);
  answer.append(createElement("div", name, "speaker"), createElement("p", text), createElement("div", labels, "labels"));
  return answer;
}

function describe(score, text, labels) {
  const parts = [score === null ? null : `score ${score.toFixed(3)}`, `${text.length} characters`, labels];
  return parts.filter(Boolean).join(", ");
}

function createArticle(row) {
  const article = createElement("article");
  const parts = [`row ${row.index}`, row.target && `target ${row.target}`, hasScores && `margin ${margin(row).toFixed(3)}`];
  article.append(createElement("h3", parts.filter(Boolean).join(", ")));
  for (const turn of row.history) article.append(createTurn(turn));
  const answers = createElement("div", undefined, "answers");
  answers.append(
    createReply("chosen", row.chosen, describe(row.chosen_score, row.chosen, row.labels), "right"),
    createReply("rejected", row.rejected, describe(row.rejected_score, row.rejected), "wrong"));
  article.append(answers);
  return article;
}

function showMore() {
  list.append(...found.slice(shown, shown + ROWS_AT_ONCE).map(createArticle));
  shown = Math.min(found.length, shown + ROWS_AT_ONCE);
  more.hidden = shown === found.length;
}

function update() {
  const words = filters.search.value.trim().toLowerCase();
  found = rows.filter((row, at) =>
    (!filters.emotion.value || row.target === filters.emotion.value) && (!words || texts[at].includes(words)));
  const key = orders[filters.order.value];
  if (key) found.sort((one, other) => key(one) - key(other));
  document.getElementById("count").textContent = `${found.length} of ${rows.length} pairs`;
  list.replaceChildren();
  shown = 0;
  showMore();
}

document.getElementById("filters").addEventListener("input", update);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", showMore);
update();
