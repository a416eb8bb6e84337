/**
 * The documentation of an endpoint: a line, a text, and its callers.
 */
import { OpenApi } from "effect/http-api"

/** The callers of an endpoint, as `/docs` shows them. */
export interface Documented {
  readonly summary: string
  readonly who: string
  /** A function, if the text takes long to make and is needed only by readers of the documentation. */
  readonly text?: string | (() => string)
  /** Examples of bodies, where the schema alone does not give a valid one. */
  readonly request?: unknown
  readonly response?: unknown
  /** The body of the request is a file, which no schema describes. */
  readonly binary?: boolean
}

type Content = { [type: string]: { [key: string]: unknown } }

const exemplify = (body: unknown, example: unknown): void => {
  const content = (body as { readonly content?: Content } | undefined)?.content?.["application/json"]
  if (example !== undefined && content !== undefined) content.example = example
}

const anyBytes = {
  content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
  required: true
}

/** For `annotateMerge` of an endpoint. */
export const documented = ({ binary, request, response, summary, text = "", who }: Documented) => {
  const describe = (text: string) => `${text === "" ? "" : `${text}\n\n`}**Who may call it:** ${who}.`
  return OpenApi.annotations({
    summary,
    ...(typeof text === "string" ? { description: describe(text) } : {}),
    transform: (operation) => {
      const { requestBody, responses } = operation as unknown as OpenApi.OpenAPISpecOperation
      exemplify(requestBody, request)
      exemplify(responses[200], response)
      return {
        ...operation,
        ...(binary === true ? { requestBody: anyBytes } : {}),
        ...(typeof text === "string" ? {} : { description: describe(text()) })
      }
    }
  })
}

/** Part of the text of every PUT with a transaction ID. */
export const idempotent =
  "A repeat with the same transaction ID and access token returns the first answer and does nothing again."
