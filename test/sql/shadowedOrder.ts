/**
 * Finds statements that order by text instead of a column. In `SELECT xid::text AS xid ... ORDER BY xid` the name in ORDER BY refers to the
 * output, so that transaction 10 comes before transaction 9; `ORDER BY events.xid` refers to the column.
 */

/** The template literals of a source that contain SQL, with the nested ones. */
const templates = (source: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const { index } of source.matchAll(/\bsql(?:<[^`]*>)?`/g)) {
    const begin = source.indexOf("`", index)
    found.push(source.slice(begin + 1, endOfTemplate(source, begin + 1)))
  }
  return found
}

/** The end of the template literal whose text begins at `from`. */
const endOfTemplate = (source: string, from: number): number => {
  let at = from
  while (at < source.length && source[at] !== "`") {
    if (source[at] === "\\") at++
    else if (source.startsWith("${", at)) at = endOfExpression(source, at + 2)
    at++
  }
  return at
}

/** The closing brace of the expression that begins at `from` in a template. */
const endOfExpression = (source: string, from: number): number => {
  let at = from
  let open = 1
  while (at < source.length) {
    if (source[at] === "`") at = endOfTemplate(source, at + 1)
    else if (source[at] === "{") open++
    else if (source[at] === "}" && --open === 0) return at
    at++
  }
  return at
}

/** The levels of parentheses of a statement, each without the text in its inner parentheses. */
const levels = (statement: string): ReadonlyArray<string> => {
  const done: Array<string> = []
  const open = [""]
  for (const character of statement) {
    if (character === "(") open.push("")
    else if (character === ")" && open.length > 1) done.push(open.pop()!)
    else open[open.length - 1] += character
  }
  return [...done, ...open]
}

/** The names in ORDER BY that refer to an output of type text instead of the column. */
export const shadowedOrders = (source: string): ReadonlyArray<string> => [
  ...new Set(
    templates(source).flatMap((statement) =>
      levels(statement).flatMap((level) => {
        const names = Array.from(level.matchAll(/\b(?:\w+\.)?(\w+)::\w+ AS (\w+)/g))
          .filter(([, column, name]) => column === name)
          .map(([, , name]) => name!)
        const orders = Array.from(
          level.matchAll(/\bORDER BY\b(.*?)(?:\b(?:LIMIT|OFFSET|UNION|FOR|RETURNING)\b|$)/gs),
          ([, by]) => by!
        )
        return names.filter((name) => orders.some((by) => new RegExp(`(?<![.\\w])${name}\\b(?!\\.)`).test(by)))
      })
    )
  )
]
