/**
 * Profiles: the fields that a user publishes, each with its audience. Values are kept as JSON; the names of
 * fields have passed the schema of `ProfileField`. The caller checks the audience.
 *
 * A changed display name or avatar must reach the rooms of the user. The pending propagation is written with the change
 * (`pendingPropagations`), so that a crash in between does not lose it.
 *
 * Used by `Users` and the Presence actor. An error of the database is a defect.
 *
 * Source: "Profiles" of the draft and of the client-server specification.
 */
import type { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import { Context, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { expectRows } from "./LargeReads.ts"
import { texts } from "./PgArrays.ts"

export interface ProfileFieldValue {
  readonly value: Json
  readonly visibility: ProfileVisibility
}

/** The public part of a profile, which memberships and presence carry. */
export interface PublicProfile {
  readonly displayname?: string
  readonly avatar_url?: string
}

interface FieldRow {
  readonly field: string
  readonly value: string
  readonly visibility: string
}

const toField = (row: FieldRow): ProfileFieldValue => ({
  value: JSON.parse(row.value),
  visibility: row.visibility as ProfileVisibility
})

interface PublicRow {
  readonly user_id: string
  readonly displayname: string | null
  readonly avatar_url: string | null
}

const toPublicProfile = (row: PublicRow): PublicProfile => ({
  ...(row.displayname === null ? {} : { displayname: JSON.parse(row.displayname) }),
  ...(row.avatar_url === null ? {} : { avatar_url: JSON.parse(row.avatar_url) })
})

/** The profile in the content of a membership, in which other servers may send anything. */
export const profileOfMember = ({ avatar_url, displayname }: Event["content"]): PublicProfile => ({
  ...(typeof displayname === "string" ? { displayname } : {}),
  ...(typeof avatar_url === "string" ? { avatar_url } : {})
})

/** The fields that memberships and presence carry. */
const propagated: ReadonlySet<string> = new Set(["displayname", "avatar_url"])

export class ProfileStore extends Context.Service<
  ProfileStore,
  {
    /** All fields of a user, by name. */
    readonly fields: (userId: UserId) => Effect.Effect<ReadonlyMap<string, ProfileFieldValue>>
    readonly field: (userId: UserId, field: string) => Effect.Effect<Option.Option<ProfileFieldValue>>
    /** Sets a field. A new display name or avatar is pending from then on (`pendingPropagation`). */
    readonly set: (userId: UserId, field: string, value: ProfileFieldValue) => Effect.Effect<void>
    /** Removes a field. Does nothing if it is not set. */
    readonly remove: (userId: UserId, field: string) => Effect.Effect<void>
    /** Deletes the whole profile, but not the copies in memberships. */
    readonly removeAll: (userId: UserId) => Effect.Effect<void>
    /** Display name and avatar; empty for a user without a profile. */
    readonly publicProfile: (userId: UserId) => Effect.Effect<PublicProfile>
    /** The profiles of many users. Users with neither name nor avatar are missing. */
    readonly publicProfiles: (userIds: Iterable<UserId>) => Effect.Effect<ReadonlyMap<UserId, PublicProfile>>
    /** The profiles in the newest memberships of users. For users of other servers these are the only known ones. */
    readonly memberProfiles: (userIds: Iterable<UserId>) => Effect.Effect<ReadonlyMap<UserId, PublicProfile>>
    /** The number of the user's newest change that is not in all rooms yet. */
    readonly pendingPropagation: (userId: UserId) => Effect.Effect<Option.Option<number>>
    /** Users with changes that are not in all rooms yet: work left by a process that ended. */
    readonly pendingPropagations: Effect.Effect<ReadonlyArray<UserId>>
    /** Completes the propagation of the change with this number. A newer one stays pending. */
    readonly finishPropagation: (userId: UserId, change: number) => Effect.Effect<void>
  }
>()("greenroom/store/ProfileStore") {
  static readonly layer = Layer.effect(
    ProfileStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      /** Writes, and marks changes that memberships carry as pending for the rooms, in the same transaction. */
      const change = (userId: UserId, field: string, write: Effect.Effect<unknown, SqlError.SqlError>) =>
        (!propagated.has(field)
          ? write
          : sql.withTransaction(
              Effect.andThen(
                write,
                sql`
                  WITH for_directory AS (
                    INSERT INTO user_directory_queue (room_nid, user_id) VALUES (0, ${userId}))
                  INSERT INTO profile_propagations (user_id) VALUES (${userId})
                  ON CONFLICT (user_id) DO UPDATE SET change = profile_propagations.change + 1`
              )
            )
        ).pipe(Effect.asVoid, Effect.orDie)

      const publicProfiles = Effect.fn("ProfileStore.publicProfiles")(function* (userIds: Iterable<UserId>) {
        const wanted = [...new Set(userIds)]
        if (wanted.length === 0) return new Map<UserId, PublicProfile>()
        yield* expectRows(wanted.length)
        const rows = yield* sql<PublicRow>`
          SELECT user_id,
            max(value) FILTER (WHERE field = 'displayname') AS displayname,
            max(value) FILTER (WHERE field = 'avatar_url') AS avatar_url
          FROM profile_fields
          WHERE user_id = ANY (${texts(wanted)}::text[]) AND field IN ('displayname', 'avatar_url')
          GROUP BY user_id`
        return new Map(rows.map((row) => [row.user_id as UserId, toPublicProfile(row)]))
      }, Effect.orDie)

      const memberProfiles = Effect.fn("ProfileStore.memberProfiles")(function* (userIds: Iterable<UserId>) {
        const wanted = [...new Set(userIds)]
        if (wanted.length === 0) return new Map<UserId, PublicProfile>()
        yield* expectRows(wanted.length)
        const rows = yield* sql<{ user_id: string; body: string }>`
          SELECT DISTINCT ON (memberships.user_id) memberships.user_id, events.body
          FROM memberships JOIN events ON events.nid = memberships.event_nid
          WHERE memberships.user_id = ANY (${texts(wanted)}::text[]) AND memberships.membership = 'join'
          ORDER BY memberships.user_id, memberships.event_nid DESC`
        return new Map(
          rows.map(({ body, user_id }) => [user_id as UserId, profileOfMember((JSON.parse(body) as Event).content)])
        )
      }, Effect.orDie)

      return ProfileStore.of({
        memberProfiles,
        fields: (userId) =>
          sql<FieldRow>`SELECT field, value, visibility FROM profile_fields WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) => new Map(rows.map((row) => [row.field, toField(row)]))),
            Effect.orDie
          ),
        field: (userId, field) =>
          sql<FieldRow>`
            SELECT field, value, visibility FROM profile_fields
            WHERE user_id = ${userId} AND field = ${field}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toField)),
            Effect.orDie
          ),
        set: (userId, field, { value, visibility }) =>
          change(
            userId,
            field,
            sql`INSERT INTO profile_fields (user_id, field, value, visibility)
                VALUES (${userId}, ${field}, ${JSON.stringify(value)}, ${visibility})
                ON CONFLICT (user_id, field) DO UPDATE
                SET value = excluded.value, visibility = excluded.visibility`
          ),
        remove: (userId, field) =>
          change(userId, field, sql`DELETE FROM profile_fields WHERE user_id = ${userId} AND field = ${field}`),
        removeAll: (userId) =>
          sql
            .withTransaction(
              Effect.andThen(
                sql`
                  WITH for_directory AS (
                    INSERT INTO user_directory_queue (room_nid, user_id) VALUES (0, ${userId}))
                  DELETE FROM profile_fields WHERE user_id = ${userId}`,
                sql`DELETE FROM profile_propagations WHERE user_id = ${userId}`
              )
            )
            .pipe(Effect.asVoid, Effect.orDie),
        publicProfile: (userId) => Effect.map(publicProfiles([userId]), (profiles) => profiles.get(userId) ?? {}),
        publicProfiles,
        pendingPropagation: (userId) =>
          sql<{ change: bigint }>`SELECT change FROM profile_propagations WHERE user_id = ${userId}`.pipe(
            Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => Number(row.change))),
            Effect.orDie
          ),
        pendingPropagations: sql<{ user_id: string }>`SELECT user_id FROM profile_propagations`.pipe(
          Effect.map((rows) => rows.map((row) => row.user_id as UserId)),
          Effect.orDie
        ),
        finishPropagation: (userId, change) =>
          sql`DELETE FROM profile_propagations WHERE user_id = ${userId} AND change = ${change}`.pipe(
            Effect.asVoid,
            Effect.orDie
          )
      })
    })
  )
}
