/**
 * The rows of `key_count_changes` in the log, see `DeviceKeyStore`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { logKind } from "./LogKind.ts"

/** One-time or fallback keys of a device were uploaded or claimed. */
export interface KeyCountChange {
  readonly userId: UserId
  readonly deviceId: string
}

export const keyCountChanges = logKind<KeyCountChange>("key_count_changes", {
  userId: "user_id",
  deviceId: "device_id"
})
