/**
 * The query parameters by which clients page and wait: `from`, `to`, `limit`, `dir`, `timeout`. They arrive as text and
 * leave as values within our limits, or as M_BAD_PAGINATION that names the parameter.
 *
 * A token is opaque here: its issuer decides whether it is valid.
 */
import { Result, Schema } from "effect"
import { BadPagination } from "./MatrixError.ts"

/** The longest stream token that is looked at, in characters. */
const maxTokenLength = 1024

/** The most events or messages in one answer. A greater `limit` is taken as this. */
export const maxLimit = 1000

/**
 * A page ends after the event with which it has so many bytes, as the events are stored; the rest is on the next page.
 * Every page has at least one event, so that a client that reads on comes to the end.
 */
export const maxPageBytes = 1024 * 1024

/** How many messages a page has by default. */
export const defaultLimit = 10

/** How long a long poll waits by default, in ms. */
export const defaultTimeout = 30_000

/** The longest a long poll waits, in ms. A greater `timeout` is taken as this. */
export const maxTimeout = 600_000

/** The parameters as they arrive: text in a URL, also numbers in a socket frame. */
export interface PaginationQuery {
  readonly from?: string | number | undefined
  readonly to?: string | number | undefined
  readonly limit?: string | number | undefined
  readonly dir?: string | number | undefined
  readonly timeout?: string | number | undefined
}

/** The parameters as values. Parameters that the client did not give are absent, unless they have a default. */
export interface Pagination {
  /** A token, `START` or `END`. */
  readonly from?: string
  readonly to?: string
  readonly limit?: number
  /** Forwards or backwards in time. */
  readonly dir?: "f" | "b"
  /** Milliseconds. */
  readonly timeout?: number
}

const keys: ReadonlySet<unknown> = new Set(["from", "to", "limit", "dir", "timeout"])

/** True for the name of one of these parameters. */
export const isPaginationKey = (key: unknown): boolean => keys.has(key)

const text = (description: string) => Schema.optional(Schema.String.annotate({ description }))

/** The parameters for the `query` of an endpoint. Parsed by `parsePagination`, because their errors have a code of their own. */
export const PaginationFields = {
  from: text("The start: a token, `START` or `END`. The event at the token is not included."),
  to: text("The end: a token, `START` or `END`."),
  limit: text(
    `How many at most: a whole number from 0, at most ${maxLimit}. ` +
      `Events of more than ${maxPageBytes} bytes together make shorter pages; \`end\` says where the next one begins.`
  ),
  dir: text("`f` forwards or `b` backwards in time. If absent: forwards from `START` or to `END`, else backwards."),
  timeout: text(`How long to wait for something to report, in milliseconds, at most ${maxTimeout}; 0 returns at once.`)
}

/** The parameters in OpenAPI. */
export const paginationParameters = {
  limit: { type: "integer", minimum: 0, maximum: maxLimit, default: defaultLimit },
  timeout: { type: "integer", minimum: 0, maximum: maxTimeout, default: defaultTimeout },
  dir: { type: "string", enum: ["f", "b"] },
  feedback: { type: "boolean", default: false }
} as const

const bad = (key: string, expected: string) => Result.fail(new BadPagination({ error: `${key}: expected ${expected}` }))

const wholeNumber = /^[0-9]{1,15}$/

const parseNumber = (key: string, value: string, most: number): Result.Result<number, BadPagination> =>
  wholeNumber.test(value) ? Result.succeed(Math.min(Number(value), most)) : bad(key, "a whole number, 0 or greater")

const tokenPattern = /^[\x21-\x7e]+$/

const parseToken = (key: string, value: string): Result.Result<string, BadPagination> =>
  value.length <= maxTokenLength && tokenPattern.test(value)
    ? Result.succeed(value)
    : bad(key, "a token that this server gave out, START or END")

const parseDirection = (value: string): Result.Result<"f" | "b", BadPagination> =>
  value === "f" || value === "b" ? Result.succeed(value) : bad("dir", "f or b")

const present = (values: { readonly [K in keyof Pagination]: Pagination[K] | undefined }): Pagination =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))

const optional = <A>(
  value: string | number | undefined,
  parse: (value: string) => Result.Result<A, BadPagination>
): Result.Result<A | undefined, BadPagination> => (value === undefined ? Result.succeed(undefined) : parse(`${value}`))

/** Reads the parameters of a request. Errors: M_BAD_PAGINATION, naming the first one that is wrong. */
export const parsePagination = (query: PaginationQuery): Result.Result<Pagination, BadPagination> =>
  Result.map(
    Result.all({
      from: optional(query.from, (value) => parseToken("from", value)),
      to: optional(query.to, (value) => parseToken("to", value)),
      limit: optional(query.limit, (value) => parseNumber("limit", value, maxLimit)),
      dir: optional(query.dir, parseDirection),
      timeout: optional(query.timeout, (value) => parseNumber("timeout", value, maxTimeout))
    }),
    present
  )
