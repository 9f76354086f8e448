"use strict";
// The script of the reports; the page of the chat uses its elements. Texts of models and data are added to a page as
// text nodes only, never as markup.
const isPhone = matchMedia("(max-width: 50rem)").matches; // as in report.css
const ROWS_AT_ONCE = isPhone ? 10 : 50;

if (isPhone) for (const part of document.querySelectorAll(".folded-on-phones")) part.open = false;

function createElement(tag, text, style) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  return element;
}

function createTurn(role, emotion, text) {
  const turn = createElement("p", undefined, "turn");
  turn.append(createElement("span", emotion ? `${role}, ${emotion}: ` : `${role}: `, "speaker"), text);
  return turn;
}

function createReply(name, text, labels, style) {
  const answer = createElement("div", undefined, `answer ${style}`);
  answer.append(createElement("div", name, "speaker"), createElement("p", text), createElement("div", labels, "labels"));
  return answer;
}

// Lists the rows of a report (blocks.Browser) that pass its filters, ROWS_AT_ONCE more with each click.
function listRows({ unit, rows }) {
  const form = document.getElementById("filters");
  const { emotion, outcome, view, order, search } = form.elements;
  const list = document.getElementById("list");
  const more = document.getElementById("more");
  const texts = rows.map((row) => [...row.history, ...row.replies].map((each) => each.text).join("\n").toLowerCase());
  const findView = (row) => row.views[view ? view.selectedIndex : 0];
  let found = [];
  let shown = 0;

  function createArticle(row) {
    const article = createElement("article");
    article.append(createElement("h3", findView(row).title));
    article.append(...row.history.map((turn) => createTurn(turn.role, turn.emotion, turn.text)));
    const answers = createElement("div", undefined, "answers");
    answers.append(...row.replies.map((reply) => createReply(reply.name, reply.text, reply.labels, reply.style)));
    article.append(answers);
    return article;
  }

  function showMore() {
    list.append(...found.slice(shown, shown + ROWS_AT_ONCE).map(createArticle));
    shown = Math.min(found.length, shown + ROWS_AT_ONCE);
    more.hidden = shown === found.length;
  }

  function update() {
    const words = search.value.trim().toLowerCase();
    found = rows.filter((row, at) =>
      (!emotion?.value || row.target === emotion.value) &&
      (!outcome?.value || findView(row).outcome === outcome.value) &&
      (!words || texts[at].includes(words)));
    const key = (order?.selectedIndex ?? 0) - 1; // the first option is the order of the data
    if (key >= 0) found.sort((one, other) => findView(one).keys[key] - findView(other).keys[key]);
    document.getElementById("count").textContent = `${found.length} of ${rows.length} ${unit}`;
    list.replaceChildren();
    shown = 0;
    showMore();
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  update();
}

const rowsElement = document.getElementById("rows"); // the chat's page has none
if (rowsElement) listRows(JSON.parse(rowsElement.textContent));
