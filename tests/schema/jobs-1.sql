-- A job file of version 1, with jobs in several states, as `sqlite3 jobs.db .dump` writes it.
BEGIN TRANSACTION;
CREATE TABLE job (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, name TEXT NOT NULL, payload, state INTEGER NOT NULL,
    priority INTEGER NOT NULL, turn INTEGER NOT NULL, key TEXT, held_key TEXT, owner INTEGER, fate INTEGER,
    run_at REAL, expires_at REAL, attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, started REAL, finished REAL, ended INTEGER, delay REAL NOT NULL DEFAULT 0, first_begun REAL,
    timeout REAL, retry TEXT, errors TEXT, notes, progress REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    result, why TEXT NOT NULL DEFAULT '', rev INTEGER NOT NULL DEFAULT 1
);
INSERT INTO "job" VALUES(1,'0a1b2c3d-10000001','double','21',4,0,1,NULL,NULL,NULL,NULL,NULL,NULL,1,0,1767225600.0,1767225600.0,1767225600.0,2,0.0,NULL,NULL,NULL,NULL,NULL,0.0,'','42','',3);
INSERT INTO "job" VALUES(2,'0a1b2c3d-10000002','fail','1',5,0,4,'k',NULL,NULL,NULL,NULL,NULL,2,0,1767225600.0,1.76722565999999904626e+09,1.76722565999999904626e+09,5,60.0,1767225600.0,NULL,NULL,'[{"attempt": 1, "at": "2026-01-01T00:00:00+00:00", "error": "OSError: no disk", "traceback": "Traceback (most recent call last):\n  File \"threadkit/_handlers.py\", line 169, in call\n    return self._run(func, arguments) if handler.is_async else func(*arguments)\n                                                               ^^^^^^^^^^^^^^^^\n  File \"handlers.py\", line 13, in fail\n    raise OSError(\"no disk\")\nOSError: no disk\n"}, {"attempt": 2, "at": "2026-01-01T00:00:59.999999+00:00", "error": "OSError: no disk", "traceback": "Traceback (most recent call last):\n  File \"threadkit/_handlers.py\", line 169, in call\n    return self._run(func, arguments) if handler.is_async else func(*arguments)\n                                                               ^^^^^^^^^^^^^^^^\n  File \"handlers.py\", line 13, in fail\n    raise OSError(\"no disk\")\nOSError: no disk\n"}]',NULL,0.5,'half',NULL,'',5);
INSERT INTO "job" VALUES(3,'0a1b2c3d-10000003','fail','2',3,0,6,NULL,NULL,NULL,NULL,1767225760.0,NULL,1,0,1767225700.0,1767225700.0,NULL,NULL,60.0,1767225700.0,NULL,NULL,'[{"attempt": 1, "at": "2026-01-01T00:01:40+00:00", "error": "OSError: no disk", "traceback": "Traceback (most recent call last):\n  File \"threadkit/_handlers.py\", line 169, in call\n    return self._run(func, arguments) if handler.is_async else func(*arguments)\n                                                               ^^^^^^^^^^^^^^^^\n  File \"handlers.py\", line 13, in fail\n    raise OSError(\"no disk\")\nOSError: no disk\n"}]',NULL,0.5,'half',NULL,'',2);
INSERT INTO "job" VALUES(4,'0a1b2c3d-10000004','later','{"to":"ada"}',1,3,7,'once','once',NULL,NULL,NULL,NULL,0,0,1767225700.0,NULL,NULL,NULL,0.0,NULL,9.0,'{"max_attempts": 7, "timeout": null, "backoff": {"delays": [1.0]}}',NULL,NULL,0.0,'',NULL,'',1);
INSERT INTO "job" VALUES(5,'0a1b2c3d-10000005','later','"gone"',6,0,8,NULL,NULL,NULL,NULL,NULL,NULL,0,0,1767225700.0,NULL,1767225700.0,9,0.0,NULL,NULL,NULL,NULL,NULL,0.0,'',NULL,'was cancelled',2);
INSERT INTO "job" VALUES(6,'0a1b2c3d-10000006','later','"tomorrow"',0,0,10,NULL,NULL,NULL,NULL,1767312100.0,NULL,0,0,1767225700.0,NULL,NULL,NULL,0.0,NULL,NULL,NULL,NULL,NULL,0.0,'',NULL,'',1);
CREATE TABLE owner (id INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL, doorbell TEXT);
CREATE TABLE tally (
    scheduled INTEGER NOT NULL, pending INTEGER NOT NULL, running INTEGER NOT NULL, retrying INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL, expired INTEGER NOT NULL,
    discarded INTEGER NOT NULL, turns INTEGER NOT NULL, kept INTEGER NOT NULL
);
INSERT INTO "tally" VALUES(1,1,0,1,1,1,1,0,0,10,3);
CREATE UNIQUE INDEX job_id ON job (id);
CREATE UNIQUE INDEX job_key ON job (held_key) WHERE held_key IS NOT NULL;
CREATE INDEX job_line ON job (name, priority DESC, turn) WHERE state = 1 AND owner IS NULL;
CREATE INDEX job_due ON job (run_at) WHERE run_at IS NOT NULL;
CREATE INDEX job_expiry ON job (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX job_owner ON job (owner) WHERE owner IS NOT NULL;
CREATE INDEX job_ended ON job (ended) WHERE ended IS NOT NULL;
INSERT INTO "sqlite_sequence" VALUES('owner',1);
PRAGMA application_id = 1953196659;
PRAGMA user_version = 1;
COMMIT;
