// The reply browser.
const { models, rows } = JSON.parse(document.getElementById("rows").textContent);
const filters = document.getElementById("filters").elements;
const paired = models.length > 1;
const sampled = rows.some((row) => row.sample);

const outcomes = paired
  ? { fixed: [false, true], broken: [true, false], "both right": [true, true], "both wrong": [false, false] }
  : { right: [true, true], wrong: [false, false] };
const orders = paired
  ? { "as in the data": 0, "largest gain first": -1, "largest loss first": 1 }
  : { "as in the data": 0, "most probable target first": -1, "least probable target first": 1 };
for (const name of Object.keys(outcomes)) filters.outcome.append(new Option(name, name));
for (const name of Object.keys(orders)) filters.order.append(new Option(name, name));

const isRight = (row, reply) => reply.emotion === row.target;
const compared = () => (filters.model ? Number(filters.model.value) : models.length - 1);

// Probability of the target emotion in the compared model's reply, minus that in the first model's reply.
function probabilityGain(row) {
  const own = row.replies[compared()].target;
  return paired ? own - row.replies[0].target : own;
}

const signed = (number) => (number > 0 ? "+" : "") + number.toFixed(3);

function findOutcome(row) {
  const pair = [isRight(row, row.replies[0]), isRight(row, row.replies[compared()])];
  return Object.keys(outcomes).find((name) => outcomes[name].every((right, at) => right === pair[at]));
}

const texts = rows.map((row) =>
  [...row.history.map((turn) => turn.text), row.gold.text, ...row.replies.map((reply) => reply.text)]
    .join("\n").toLowerCase());

function createArticle(row) {
  const article = createElement("article");
  const sample = sampled ? `, sample ${row.sample}` : "";
  const gained = paired ? `, ${findOutcome(row)}, target probability ${signed(probabilityGain(row))}` : `, ${findOutcome(row)}`;
  article.append(createElement("h3", `row ${row.index}${sample}: target ${row.target}${gained}`));
  for (const turn of row.history) article.append(createTurn(turn.role, turn.emotion, turn.text));
  const answers = createElement("div", undefined, "answers");
  answers.append(createReply("gold reply", row.gold.text, `predicted: ${row.gold.emotion}`, ""));
  row.replies.forEach((reply, at) => {
    const labels = [
      `predicted: ${reply.emotion} (${reply.score.toFixed(2)})`, reply.gibberish,
      reply.ends_with_punctuation ? "ends with punctuation" : "no punctuation at the end", `${reply.tokens} tokens`];
    if (reply.hit_max_new_tokens) labels.push("stopped by max_new_tokens");
    answers.append(createReply(models[at], reply.text, labels.join(", "), isRight(row, reply) ? "right" : "wrong"));
  });
  article.append(answers);
  return article;
}

function findRows() {
  const words = filters.search.value.trim().toLowerCase();
  const found = rows.filter((row, at) =>
    (!filters.emotion.value || row.target === filters.emotion.value) &&
    (!filters.outcome.value || findOutcome(row) === filters.outcome.value) &&
    (!words || texts[at].includes(words)));
  const direction = orders[filters.order.value];
  if (direction) found.sort((one, other) => direction * (probabilityGain(one) - probabilityGain(other)));
  document.getElementById("count").textContent = `${found.length} of ${rows.length} rows`;
  return found;
}

listRows(document.getElementById("replies"), document.getElementById("filters"), findRows, createArticle);
