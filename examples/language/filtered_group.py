"""A group with a filter: it collects what matches, also while nobody is there, and counts what it passed over.

Run: python examples/language/filtered_group.py
"""

from tidings import Client, GroupExists


def main() -> None:
    with Client() as client:
        client.execute("DROP TOPIC IF EXISTS sightings; DROP GROUP IF EXISTS rangers")
        client.execute("CREATE GROUP rangers ON sightings WHERE animal IN ('wolf', 'bear') AND count > 1")
        for animal, count in (("fox", 3), ("wolf", 4), ("bear", 1), ("bear", 2), ("hare", 9)):
            client.publish("sightings", {"animal": animal, "count": count})

        with client.subscribe("sightings", consumer_group="rangers") as sightings:  # a group keeps its filter
            for sighting in sightings.fetch(10, timeout=5):
                print(f"{sighting['animal']}: {sighting['count']}")

        (group,) = client.groups("sightings")
        print(f"acked {group.acked}, filtered {group.filtered}, lag {group.lag}")
        print("filter:", group.filter)

        # The same condition as a function is the same filter; another one is an error that shows both.
        rule = lambda m: m["animal"].is_in(["wolf", "bear"]) & (m["count"] > 1)  # noqa: E731
        client.create_group("sightings", "rangers", filter=rule)
        try:
            client.create_group("sightings", "rangers", filter="animal = 'lynx'")
        except GroupExists as error:
            print(error)


if __name__ == "__main__":
    main()
