/**
 * The section of `/docs` about the WebSocket, which OpenAPI cannot describe: Markdown, generated from the definitions by
 * which the server reads frames.
 */
import { Schema, SchemaAST } from "effect"
import { closeCodes, maxRequestBytes, subprotocols } from "./SocketFrame.ts"
import { type SocketMethod, socketMethods } from "./SocketMethod.ts"

/** The reasons for which the server closes a socket, and the reaction of the client. */
const closings: { readonly [K in keyof typeof closeCodes]: string } = {
  goingAway: "The server stops or restarts: reconnect.",
  wrongFrameType: "A text frame on `m.msgpack`, or a binary frame on `m.json`.",
  tooManyRequests: "Too many invalid frames in a row.",
  tooBig: `A frame of more than ${maxRequestBytes} bytes.`,
  internalError: "The server failed: reconnect.",
  slowConsumer: "The client reads too slowly: reconnect when it can read again.",
  unknownToken: "The access token was revoked or has expired: log in again."
}

/** The errors that belong to no method. The errors of a method are those of the endpoint that it names. */
const errors: { readonly [errcode: string]: string } = {
  M_NOT_JSON: "The frame is not JSON, or not MessagePack",
  M_BAD_JSON:
    "The frame is not an object, lacks `id` or `method`, or has a wrong parameter; the text names it: `params.room_id`",
  M_BAD_PAGINATION: "`from`, `to`, `limit` or `dir` of the parameters is wrong",
  M_UNRECOGNIZED: "The method does not exist",
  M_LIMIT_EXCEEDED: "Too many requests; `retry_after_ms` says when to try again"
}

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

const parametersOf = (method: SocketMethod): string => {
  const { schema } = Schema.toJsonSchemaDocument(socketMethods[method])
  const required = new Set((schema.required ?? []) as ReadonlyArray<string>)
  const names = Object.keys((schema.properties ?? {}) as object)
  return names.map((name) => `\`${name}${required.has(name) ? "" : "?"}\``).join(", ")
}

const methodRows = () =>
  (Object.keys(socketMethods) as ReadonlyArray<SocketMethod>).map((method) => [
    `\`${method}\``,
    parametersOf(method),
    SchemaAST.resolveDescription(socketMethods[method].ast) ?? ""
  ])

const closeRows = Object.entries(closings).map(([name, text]) => [String(closeCodes[name as "goingAway"]), text])

/** Frames, methods, errors and close codes. */
export const describeSocket =
  (): string => `Subprotocols: ${subprotocols.map((name) => `\`${name}\``).join(", ")}. \`m.json\` has text frames of JSON, \`m.msgpack\` binary
frames of the same objects in MessagePack (integers beyond 32 bits may be floats); without one it is \`m.json\`.

The client sends \`{"id", "method", "params"}\`, where \`id\` is a text of its choice or an integer, and gets \`{"id", "result"}\` or
\`{"id", "error": {"errcode", "error"}}\`, not always in the order of its requests. Without a request it gets
\`{"chunk", "start", "end"}\`, the parts of the event stream, in order and without loss. A reconnect with \`from\`, the last
\`end\`, continues at the position of the client.

Methods, with their parameters (\`?\`: may be absent). A \`txn_id\` makes a request idempotent, as in the URL of the endpoint. The
errors are those of the endpoint:

${table(["method", "params", ""], methodRows())}

Further errors, which leave the socket open:

${table(
  ["errcode", ""],
  Object.entries(errors).map(([errcode, text]) => [errcode, text])
)}

The server closes a socket with one of these codes. No update is lost:

${table(["code", ""], closeRows)}

A user has at most 50 sockets at a time on each node: M_LIMIT_EXCEEDED, instead of the upgrade. Without a WebSocket upgrade, or
with none of the subprotocols: M_UNKNOWN. A \`from\` that is not, or no longer, a token of this server: M_BAD_PAGINATION; begin with
\`initialSync\`.`
