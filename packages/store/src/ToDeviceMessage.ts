/**
 * The rows of `to_device_messages` as the log carries them: see `ToDeviceStore`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { logKind } from "./LogKind.ts"

/** For a device that has a message. */
export interface ToDeviceMessage {
  readonly userId: UserId
  readonly deviceId: string
}

export const toDeviceMessages = logKind<ToDeviceMessage>("to_device_messages", {
  userId: "user_id",
  deviceId: "device_id"
})
