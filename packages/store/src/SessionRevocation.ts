/**
 * Logins that have ended: logged out, revoked, expired, deactivated, or logged in anew on the same device. The database
 * writes the rows itself when a row of `access_tokens` goes, so that no way to end a login can miss it, the command line
 * included. Rows are for those who follow the log, and are kept for a day.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { logKind } from "./LogKind.ts"

export interface SessionRevocation {
  readonly tokenId: number
  readonly userId: UserId
  readonly deviceId: string
}

export const sessionRevocations = logKind<SessionRevocation>("session_revocations", {
  tokenId: "token_id",
  userId: "user_id",
  deviceId: "device_id"
})
