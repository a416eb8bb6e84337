/**
 * What the documentation says of an endpoint: a line, a text, and who may call it.
 */
import { OpenApi } from "effect/http-api"

/** Who may call an endpoint, as `/docs` shows it. */
export interface Documented {
  readonly summary: string
  readonly who: string
  readonly text?: string
}

/** For `annotateMerge` of an endpoint. */
export const documented = ({ summary, text, who }: Documented) =>
  OpenApi.annotations({
    summary,
    description: `${text === undefined ? "" : `${text}\n\n`}**Who may call it:** ${who}.`
  })

/** Said of every PUT with a transaction ID. */
export const idempotent =
  "A repeat with the same transaction ID and access token returns the first answer and does nothing again."
