/**
 * The error of a listener. Apart from `NodeServer`, so that commands describe it without loading an HTTP server.
 */
import * as Data from "effect/Data"

/** The address cannot be listened on. `code` is that of the system, such as EADDRINUSE. */
export class ListenError extends Data.TaggedError("ListenError")<{
  readonly code: string
  readonly host: string
  readonly port: number
}> {
  override get message(): string {
    return `cannot listen on ${this.host} port ${this.port}: ${this.code}`
  }
}
