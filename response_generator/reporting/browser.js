"use strict";
// What the pages with a list of rows share. Texts of models and data are added to a page as text nodes only, never as
// markup.
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

// Shows the rows that `findRows` returns, again whenever the form changes, and ROWS_AT_ONCE more with each click.
function listRows(list, form, findRows, createArticle) {
  const more = document.getElementById("more");
  let found = [];
  let shown = 0;

  function showMore() {
    list.append(...found.slice(shown, shown + ROWS_AT_ONCE).map(createArticle));
    shown = Math.min(found.length, shown + ROWS_AT_ONCE);
    more.hidden = shown === found.length;
  }

  function update() {
    found = findRows();
    list.replaceChildren();
    shown = 0;
    showMore();
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  update();
}
