/**
 * The room version of the draft: its event format, its authorisation rules, and the state resolution of version 2.
 *
 * Source: "PDUs and EDUs" and "Rooms" of the draft.
 */
import { draftRules } from "./draft/Authorisation.ts"
import { draftEventFormat } from "./draft/DraftEventFormat.ts"
import type { RoomVersion } from "./RoomVersion.ts"
import { stateResolution } from "./StateResolution.ts"

/** The draft's room version. */
export const draftRoomVersion: RoomVersion = {
  id: "1-draft",
  ...draftEventFormat,
  ...draftRules,
  stateResolution: stateResolution({
    ...draftRules,
    createEventId: draftEventFormat.createEventId,
    isRebased: false
  }),
  enforcesKeyValidity: true,
  knockRules: new Set(["knock"]),
  restrictedRules: new Set(),
  namesCreator: true,
  privilegesCreators: false,
  redactsInContent: false,
  withholdsRedactions: false
}

/** True for the version of 2014, whose federation speaks the draft's dialect. */
export const isDraft = ({ id }: { readonly id: string }): boolean => id === draftRoomVersion.id
