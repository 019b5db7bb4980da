-- What people may read with tools of their own: devices, custodies and revocations, with names and durations in seconds.
-- These views are part of what Handover promises: columns are added, never renamed or removed. Whoever reads needs
-- USAGE on the schema and SELECT on the views, and nothing else.

CREATE SCHEMA reporting;

-- The iPads as they are now.
CREATE VIEW reporting.devices (device_id, serial, udid, uem_id, uem_uuid, name, asset_number, site, source, state, holder_upn,
        holder_object_id, since, last_event_at, unfinished_revocations) AS
    SELECT d.id, d.serial, d.udid, d.uem_id, d.uem_uuid, d.name, d.asset_number, d.site, d.source, d.state, p.upn,
        p.object_id, d.since, d.last_event_at,
        (SELECT COUNT(*) FROM revocations r WHERE r.device_id = d.id
            AND r.state IN ('open', 'in_flight', 'accepted', 'held', 'needs_operator'))
    FROM devices d
    LEFT JOIN people p ON p.id = d.holder_person;

-- Who held which iPad, from when to when. `seconds` is absent while it lasts; `next_holder` is 'person', 'pool' or 'unknown'.
CREATE VIEW reporting.custodies (custody_id, device_id, device, device_name, site, holder, upn, object_id, started_at, started,
        ended_at, ended, seconds, departure, next_holder, next_upn, revocation_id, revocation_state) AS
    SELECT c.id, c.device_id, COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id), d.name, d.site, c.holder, p.upn, p.object_id,
        c.started_at, c.started, c.ended_at, c.ended, CAST(EXTRACT(EPOCH FROM c.ended_at - c.started_at) AS double precision), c.departure,
        (SELECT n.holder FROM custodies n
            WHERE n.device_id = c.device_id AND (n.started_at, n.id) > (c.started_at, c.id)
            ORDER BY n.started_at, n.id LIMIT 1),
        (SELECT o.upn FROM custodies n LEFT JOIN people o ON o.id = n.person_id
            WHERE n.device_id = c.device_id AND (n.started_at, n.id) > (c.started_at, c.id)
            ORDER BY n.started_at, n.id LIMIT 1),
        r.id, r.state
    FROM custodies c
    JOIN devices d ON d.id = c.device_id
    LEFT JOIN people p ON p.id = c.person_id
    LEFT JOIN revocations r ON r.custody_id = c.id
    WHERE c.holder <> 'pool';

-- What was owed, and what became of it. `seconds_to_proof` counts from the departure, `seconds_exposed` from when somebody else
-- had the iPad; both are absent until the revocation is proven.
CREATE VIEW reporting.revocations (revocation_id, custody_id, device_id, device, device_name, site, upn, object_id, reason, state, why,
        departed_at, exposed_from, owed_at, accepted_at, verified_at, closed_at, seconds_to_proof, seconds_exposed, attempts,
        request_id, stamp_before, stamp_after) AS
    SELECT r.id, r.custody_id, r.device_id, COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id), d.name, d.site, p.upn,
        p.object_id, r.reason, r.state, r.why, r.departed_at, r.exposed_from, r.owed_at,
        COALESCE(r.accepted_at, o.accepted_at), COALESCE(r.verified_at, o.verified_at), r.closed_at,
        CAST(EXTRACT(EPOCH FROM COALESCE(r.verified_at, o.verified_at) - r.departed_at) AS double precision),
        CAST(EXTRACT(EPOCH FROM COALESCE(r.verified_at, o.verified_at) - r.exposed_from) AS double precision),
        (SELECT COUNT(*) FROM attempt_revocations ar WHERE ar.revocation_id = r.id),
        a.request_id, a.stamp_before, a.stamp_after
    FROM revocations r
    JOIN devices d ON d.id = r.device_id
    LEFT JOIN people p ON p.id = r.person_id
    LEFT JOIN revocations o ON o.id = r.covered_by
    LEFT JOIN attempts a ON a.id = r.attempt_id;
