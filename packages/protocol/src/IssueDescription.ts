/**
 * Describes the fault of a value for an error: the path of the first wrong key, and the expected value. The value itself is
 * left out, since it may be a password.
 */
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"

/** The first fault of a value, for the error that refuses it. */
export interface IssueDescription {
  /** The path of the wrong key, `info.w`; empty for the value as a whole. */
  readonly key: string
  /** For people: `info.w: expected an integer`. */
  readonly text: string
  /** Whether the key is wrong because it is not there. */
  readonly missing: boolean
}

/** The longest key that an error quotes, in characters. */
const maxKeyText = 200

/** A key as errors quote it: cut off where it is longer than anyone reads. */
export const keyText = (key: string): string =>
  key.length <= maxKeyText ? key : `${key.slice(0, maxKeyText).toWellFormed()}...`

/** The JSON names of the values that a schema expects. */
const jsonTerms: { readonly [tag: string]: string } = {
  String: "a string",
  Number: "a number",
  Boolean: "true or false",
  Objects: "an object",
  Arrays: "an array"
}

const expectedType = (ast: SchemaAST.AST): string | undefined => {
  const expected = ast._tag === "Number" ? SchemaAST.resolve(ast)?.expected : ast.annotations?.expected
  return typeof expected === "string" ? expected : jsonTerms[ast._tag]
}

const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    const expected = issue._tag === "InvalidType" ? expectedType(issue.ast) : undefined
    return expected === undefined ? SchemaIssue.defaultLeafHook(issue) : `Expected ${expected}`
  }
})

/** Describes the first thing that a schema refused. */
export const describeIssue = (issue: SchemaIssue.Issue): IssueDescription => {
  const first = format(issue).issues[0]
  const key = (first?.path ?? [])
    .map((segment) => String(typeof segment === "object" ? segment.key : segment))
    .join(".")
  const message = first?.message ?? "Expected a valid value"
  const text = `${message.charAt(0).toLowerCase()}${message.slice(1)}`
  const missing = message.startsWith("Missing key")
  return { key, text: key === "" ? text : `${keyText(key)}: ${text}`, missing }
}
