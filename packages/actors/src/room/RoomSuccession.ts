/**
 * Carries users' own settings of a room over when they join the room that replaces it. Declared here, where rooms are
 * joined; provided by `user/RoomSuccessionLive.ts`, which knows the settings.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, type Effect } from "effect"

/** Copies users' settings to a room that replaces another one, provided by `user/RoomSuccessionLive`. */
export class RoomSuccession extends Context.Service<
  RoomSuccession,
  {
    /** Gives the user's settings of one room to another, where the user has none of that room yet. */
    readonly inherit: (userId: UserId, from: RoomId, to: RoomId) => Effect.Effect<void>
  }
>()("greenroom/actors/RoomSuccession") {}
