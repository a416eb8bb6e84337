/**
 * The dehydrated device of each user. Its login and its keys are rows like those of any device, and end with it.
 *
 * Used by `DehydratedDevices` alone. An error of the database is a defect.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"

export interface DehydratedDevice {
  readonly deviceId: string
  readonly data: JsonObject
}

export class DehydratedDeviceStore extends Context.Service<
  DehydratedDeviceStore,
  {
    readonly find: (userId: UserId) => Effect.Effect<Option.Option<DehydratedDevice>>
    /** Replaces the dehydrated device. The new one must be logged in. */
    readonly put: (userId: UserId, device: DehydratedDevice) => Effect.Effect<void>
  }
>()("greenroom/store/DehydratedDeviceStore") {
  static readonly layer = Layer.effect(
    DehydratedDeviceStore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      DehydratedDeviceStore.of({
        find: (userId) =>
          sql<{ device_id: string; data: string }>`
            SELECT device_id, data FROM dehydrated_devices WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) =>
              Option.map(Option.fromNullishOr(rows[0]), ({ data, device_id }) => ({
                deviceId: device_id,
                data: JSON.parse(data)
              }))
            ),
            Effect.orDie
          ),
        put: (userId, { data, deviceId }) =>
          sql`
            INSERT INTO dehydrated_devices (user_id, device_id, data) VALUES (${userId}, ${deviceId}, ${JSON.stringify(data)})
            ON CONFLICT (user_id) DO UPDATE SET device_id = excluded.device_id, data = excluded.data`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    )
  )
}
