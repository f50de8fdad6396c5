"""A topic as a table: what is stored, counted and searched with SQL.

Run: python examples/language/query_a_topic.py
"""

from datetime import UTC, datetime, timedelta

from tidings import Client, InvalidStatement

ORDERS = [
    {"order_id": 1, "status": "placed", "details": {"total": 42, "country": "CH"}},
    {"order_id": 2, "status": "paid", "details": {"total": 250, "country": "AT"}},
    {"order_id": 3, "status": "placed", "details": {"total": 7, "country": "AT"}},
]


def main() -> None:
    with Client() as client:
        client.execute("DROP TOPIC IF EXISTS queried_orders")
        client.publish_batch("queried_orders", ORDERS, partition_key="shop-1")

        # `->>` takes a field out of the data, or out of the headers.
        for status, count in client.query("SELECT data->>'status', count(*) FROM queried_orders GROUP BY 1 ORDER BY 1"):
            print(f"{status}: {count}")

        # What comes from elsewhere is a parameter: it is a value, and never becomes SQL.
        found = client.query(
            """
            SELECT data->>'order_id' AS order_id, data->>'$.details.total' AS total
            FROM queried_orders
            WHERE data->>'$.details.country' = :country AND _published_at > :since
            ORDER BY total DESC
            """,
            {"country": "AT", "since": datetime.now(UTC) - timedelta(hours=1)},
        )
        for row in found.dicts():
            print(row)

        injected = "' OR 1 = 1 --"
        print("injected:", len(client.query("SELECT * FROM queried_orders WHERE _key = ?", [injected])))

        # A schema gives the table columns.
        client.execute(
            "ALTER TOPIC queried_orders SCHEMA (order_id INT, status STRING, details MAP<STRING, ANY>) FORCE"
        )
        print("placed:", client.query("SELECT order_id FROM queried_orders WHERE status = 'placed'").rows)

        for wrong in ("SELECT totl FROM queried_orders", "SELECT * FROM queried_order", "DELETE FROM queried_orders"):
            try:
                client.query(wrong)
            except InvalidStatement as error:
                print(error.reason)


if __name__ == "__main__":
    main()
