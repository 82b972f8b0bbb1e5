// A small reader of SQL text: finds what touches session state, and renames prepared statements.
// It knows strings, dollar quotes, comments and identifiers, so words inside data are never mistaken for statements.

const SUSPECT =
  /\b(?:copy|prepare|execute|deallocate|discard|listen|unlisten|reset|temp|temporary|pg_temp|hold|currval|lastval)\b|authorization|set_config|advisory_lock|\bset\s+(?:session\s+|local\s+)?"?\w+"?\s*\./i;

// Of strings and quoted names only the start: they may be huge, and are skipped by search.
const TOKEN =
  /\s+|--[^\n]*|\/\*|[eE]?'|"|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|\d+|;|./gsy;

/** Whether the text needs a closer look at all; almost no statement does. */
export const suspicious = (text) => SUSPECT.test(text);

function commentEnd(text, start) {
  let depth = 0;
  const edge = /\/\*|\*\//g;
  edge.lastIndex = start;
  for (let hit = edge.exec(text); hit; hit = edge.exec(text)) {
    depth += hit[0] === '/*' ? 1 : -1;
    if (depth === 0) return edge.lastIndex;
  }
  return text.length;
}

/** Where a string or quoted name that was opened before `from` ends; a doubled quote belongs to it. */
function quotedEnd(text, from, quote, backslash) {
  const edge = backslash ? /\\[\s\S]|'/g : null;
  for (let at = from; ;) {
    if (edge) edge.lastIndex = at;
    const hit = edge ? (edge.exec(text)?.index ?? -1) : text.indexOf(quote, at);
    if (hit < 0) return text.length;
    if (text[hit] === '\\') at = hit + 2;
    else if (text[hit + 1] === quote) at = hit + 2;
    else return hit + 1;
  }
}

/** The end of the token that starts with what TOKEN found. */
function tokenEnd(text, token, end) {
  const last = token.at(-1);
  if (token[0] === '$' && last === '$' && token.length > 1) {
    const close = text.indexOf(token, end);
    return close < 0 ? text.length : close + token.length;
  }
  return last === "'" || token === '"' ? quotedEnd(text, end, last, token.length === 2) : end;
}

/** Goes past a statement whose words do not matter: to its `;`, without making tokens. */
function skipStatement(text, from) {
  const special = /;|'|"|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|--[^\n]*|\/\*/g;
  special.lastIndex = from;
  for (let hit = special.exec(text); hit; hit = special.exec(text)) {
    const [token] = hit;
    if (token === ';') return hit.index;
    if (token === '/*') special.lastIndex = commentEnd(text, hit.index);
    else if (token === "'") {
      const escapes = /(?:^|[^\w$\u0080-\uffff])[eE]$/.test(text.slice(Math.max(0, hit.index - 2), hit.index));
      special.lastIndex = quotedEnd(text, hit.index + 1, "'", escapes);
    } else if (token === '"') special.lastIndex = quotedEnd(text, hit.index + 1, '"', false);
    else if (token[0] === '$') special.lastIndex = tokenEnd(text, token, special.lastIndex);
  }
  return text.length;
}

/**
 * Statements of the text, each a list of tokens {text, start, end}; white space, comments and `;` left out. Of those whose
 * first word does not `matter`, only that one.
 */
export function statements(text, matters = () => true) {
  const found = [];
  let current = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const start = TOKEN.lastIndex;
    const token = TOKEN.exec(text)[0];
    if (token === '/*') TOKEN.lastIndex = commentEnd(text, start);
    else if (token === ';') {
      if (current.length) found.push(current);
      current = [];
    } else if (!/^\s|^--/.test(token)) {
      const end = tokenEnd(text, token, TOKEN.lastIndex);
      TOKEN.lastIndex = end;
      current.push({ text: text.slice(start, end), start, end });
      if (current.length === 1 && !matters(lowerCase(current[0].text))) TOKEN.lastIndex = skipStatement(text, end);
    }
  }
  if (current.length) found.push(current);
  return found;
}

/** Lower case as PostgreSQL folds it in a multi-byte encoding: ASCII letters only. */
export const lowerCase = (text) => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());

/** A name as PostgreSQL stores it: folded to lower case unless quoted. */
export function identifier(token) {
  return token[0] === '"' ? token.slice(1, -1).replaceAll('""', '"') : lowerCase(token);
}

export const quoteIdentifier = (name) => `"${name.replaceAll('"', '""')}"`;
export const quoteLiteral = (value) =>
  value.includes('\\')
    ? `E'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${value.replaceAll("'", "''")}'`;

/** SQL that fails with the given state: lets the database itself end the transaction as for any other error. */
export function raise(code, text, hint) {
  const options = `ERRCODE = ${quoteLiteral(code)}, MESSAGE = ${quoteLiteral(text)}, HINT = ${quoteLiteral(hint)}`;
  return `DO $gate$ BEGIN RAISE EXCEPTION USING ${options}; END $gate$`;
}
