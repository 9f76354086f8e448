// The browser of pairs.
const rows = JSON.parse(document.getElementById("rows").textContent);
const filters = document.getElementById("filters").elements;

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

const texts = rows.map((row) =>
  [...row.history.map((turn) => turn.text), row.chosen, row.rejected].join("\n").toLowerCase());

function describe(score, text, labels) {
  const parts = [score === null ? null : `score ${score.toFixed(3)}`, `${text.length} characters`, labels];
  return parts.filter(Boolean).join(", ");
}

function createArticle(row) {
  const article = createElement("article");
  const parts = [`row ${row.index}`, row.target && `target ${row.target}`, hasScores && `margin ${margin(row).toFixed(3)}`];
  article.append(createElement("h3", parts.filter(Boolean).join(", ")));
  for (const turn of row.history) article.append(createTurn(turn.role, turn.emotion, turn.text));
  const answers = createElement("div", undefined, "answers");
  answers.append(
    createReply("chosen", row.chosen, describe(row.chosen_score, row.chosen, row.labels), "right"),
    createReply("rejected", row.rejected, describe(row.rejected_score, row.rejected), "wrong"));
  article.append(answers);
  return article;
}

function findRows() {
  const words = filters.search.value.trim().toLowerCase();
  const found = rows.filter((row, at) =>
    (!filters.emotion.value || row.target === filters.emotion.value) && (!words || texts[at].includes(words)));
  const key = orders[filters.order.value];
  if (key) found.sort((one, other) => key(one) - key(other));
  document.getElementById("count").textContent = `${found.length} of ${rows.length} pairs`;
  return found;
}

listRows(document.getElementById("pairs"), document.getElementById("filters"), findRows, createArticle);
