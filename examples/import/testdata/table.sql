CREATE TABLE app_users (
	id                bigint PRIMARY KEY,
	name              text NOT NULL,
	email             text,
	email_verified_at timestamptz,
	phone             text,
	city              text,
	created_at        timestamptz NOT NULL,
	updated_at        timestamptz NOT NULL,
	disabled          boolean NOT NULL DEFAULT false
);
INSERT INTO app_users VALUES
	(1, 'Ada', 'ada@example.org', '2020-02-03 04:05:06Z', '+44 20 7183 8750', 'London', '2020-01-02 03:04:05.678Z', '2021-01-02 03:04:05Z', false),
	(2, 'Ben', 'ADA@example.org', NULL, NULL, NULL, '2020-01-03 03:04:05Z', '2020-01-03 03:04:05Z', false),
	(3, 'Cyd', 'cyd@example.org', NULL, '+1 415 555 2671', NULL, '2020-01-04 03:04:05Z', '2020-01-03 03:04:05Z', true),
	(4, 'Dan', NULL, NULL, NULL, 'Paris, Texas', '2020-01-05 03:04:05Z', '2020-01-05 03:04:05Z', true);
