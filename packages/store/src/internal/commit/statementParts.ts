/**
 * The parts of the commit statement: templates of SQL with values. The text of a statement is made once for each sequence of templates,
 * so that a commit only collects values.
 */

/** A template with its values. */
export interface Part {
  readonly template: ReadonlyArray<string>
  readonly values: ReadonlyArray<unknown>
}

export const part = (template: TemplateStringsArray, ...values: ReadonlyArray<unknown>): Part => ({ template, values })

/** How many texts are kept, of up to 10 KB each. Then all are forgotten: a commit with other kinds of rows is another sequence. */
const mostTexts = 1_000

let kept = 0

/** The text of the templates so far, with the placeholders `$1`, `$2` and so on. Longer sequences hang on their beginning. */
class StatementText {
  readonly text: string
  private readonly placeholders: number
  private readonly longer = new Map<ReadonlyArray<string>, StatementText>()

  constructor(text: string, placeholders: number) {
    this.text = text
    this.placeholders = placeholders
  }

  followedBy(template: ReadonlyArray<string>): StatementText {
    const known = this.longer.get(template)
    if (known !== undefined) return known
    const [first, ...others] = template
    const added = others.reduce((text, literal, index) => `${text}$${this.placeholders + index + 1}${literal}`, first!)
    const longer = new StatementText(this.text + added, this.placeholders + others.length)
    this.longer.set(template, longer)
    kept++
    return longer
  }
}

let beginning = new StatementText("", 0)

/** The text of a statement with these parts. */
export const textOf = (parts: ReadonlyArray<Part>): string => {
  if (kept >= mostTexts) {
    beginning = new StatementText("", 0)
    kept = 0
  }
  return parts.reduce((text, { template }) => text.followedBy(template), beginning).text
}

/** The values of all parts, in the order of the placeholders. */
export const valuesOf = (parts: ReadonlyArray<Part>): ReadonlyArray<unknown> => parts.flatMap(({ values }) => values)
