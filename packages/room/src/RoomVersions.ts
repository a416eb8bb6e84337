/**
 * The room versions that this server speaks, each an event format, authorisation rules, a state resolution, and flags.
 * Version 1 is written out; each later one says what it changes of the one before it, as the specification does.
 *
 * Source: "Room versions" of the specification.
 */
import { draftRoomVersion } from "./DraftRoomVersion.ts"
import { eventFormat } from "./format/EventFormat.ts"
import type { PduForm } from "./format/PduForm.ts"
import { redactionV1, redactionV6, redactionV8, redactionV9, redactionV11 } from "./format/RedactionAlgorithm.ts"
import type { RoomVersion } from "./RoomVersion.ts"
import { authorisationRules } from "./rules/EventRules.ts"
import { readInteger, readLoosely } from "./rules/PowerLevelReading.ts"
import type { RuleOptions } from "./rules/Subject.ts"
import { stateResolution } from "./StateResolution.ts"
import { stateResolutionV1 } from "./StateResolutionV1.ts"

/** The parts of a version. */
interface Parts extends Omit<PduForm, "hasVouchers">, RuleOptions {
  readonly resolution: "1" | "2" | "2.1"
  readonly enforcesKeyValidity: boolean
}

const v1: Parts = {
  id: "1",
  eventIds: "chosen",
  roomIds: "chosen",
  numbers: "any",
  keyLengths: "characters",
  redacts: "top",
  redaction: redactionV1,
  readLevel: readLoosely,
  creators: "content",
  checksAliases: true,
  checksRedactions: true,
  checksNotifications: false,
  knockRules: new Set(),
  restrictedRules: new Set(),
  resolution: "1",
  enforcesKeyValidity: false
}

const v2: Parts = { ...v1, id: "2", resolution: "2" }
const v3: Parts = { ...v2, id: "3", eventIds: "base64", checksRedactions: false }
const v4: Parts = { ...v3, id: "4", eventIds: "base64url" }
const v5: Parts = { ...v4, id: "5", enforcesKeyValidity: true }
const v6: Parts = {
  ...v5,
  id: "6",
  numbers: "integers",
  redaction: redactionV6,
  checksAliases: false,
  checksNotifications: true
}
const v7: Parts = { ...v6, id: "7", knockRules: new Set(["knock"]) }
const v8: Parts = { ...v7, id: "8", redaction: redactionV8, restrictedRules: new Set(["restricted"]) }
const v9: Parts = { ...v8, id: "9", redaction: redactionV9 }
const v10: Parts = {
  ...v9,
  id: "10",
  readLevel: readInteger,
  knockRules: new Set(["knock", "knock_restricted"]),
  restrictedRules: new Set(["restricted", "knock_restricted"])
}
const v11: Parts = {
  ...v10,
  id: "11",
  keyLengths: "bytes",
  redacts: "content",
  redaction: redactionV11,
  creators: "sender"
}
const v12: Parts = { ...v11, id: "12", roomIds: "createHash", creators: "privileged", resolution: "2.1" }

const versionOf = (parts: Parts): RoomVersion => {
  const { checksRedactions, creators, enforcesKeyValidity, id, knockRules, redacts, resolution, restrictedRules } =
    parts
  const rules = authorisationRules(parts)
  const namesCreator = creators === "content"
  const hasVouchers = restrictedRules.size > 0
  const format = eventFormat({ ...parts, namesCreator, hasVouchers, authEventKeys: rules.authEventKeys })
  const { createEventId } = format
  return {
    id,
    ...format,
    ...rules,
    stateResolution:
      resolution === "1"
        ? stateResolutionV1(rules.authorise)
        : stateResolution({ ...rules, createEventId, isRebased: resolution === "2.1" }),
    enforcesKeyValidity,
    knockRules,
    restrictedRules,
    namesCreator,
    privilegesCreators: creators === "privileged",
    redactsInContent: redacts === "content",
    withholdsRedactions: !checksRedactions
  }
}

/** All room versions, by ID. */
export const roomVersions: ReadonlyMap<string, RoomVersion> = new Map(
  [draftRoomVersion, ...[v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12].map(versionOf)].map((version) => [
    version.id,
    version
  ])
)

/** The version of rooms that the draft's client API creates. */
export const defaultRoomVersion: RoomVersion = draftRoomVersion

/** The room version of this ID; undefined if this server does not speak it. */
export const roomVersion = (id: string): RoomVersion | undefined => roomVersions.get(id)
