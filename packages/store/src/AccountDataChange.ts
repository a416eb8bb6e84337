/**
 * The rows of `account_data` in the log, see `AccountDataStore`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { logKind } from "./LogKind.ts"

/** An entry of a user's account data changed. */
export interface AccountDataChange {
  readonly userId: UserId
  /** Empty for data of the account as a whole. */
  readonly roomId: string
  readonly type: string
}

export const accountDataChanges = logKind<AccountDataChange>("account_data", {
  userId: "user_id",
  roomId: "room_id",
  type: "type"
})
