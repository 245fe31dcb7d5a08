"""Remember a person, find them, forget them: python enrol_and_search.py ENROLLED PROBE [URL]."""

import sys

from aurum_client import AurumClient, ConflictError


def main(enrolled: str, probe: str, url: str = "http://localhost:8080") -> None:
    """Enrol one photo, search for another, and print the matches."""
    with AurumClient(url) as client:
        try:
            client.create_collection("example", description="made by an example")
        except ConflictError:
            print("the collection exists already")
        enrolment = client.enrol("example", enrolled, subject="somebody", quality="off")
        print("enrolled", enrolment.faces[0].face_id)
        for match in client.search("example", probe).faces[0].matches:
            print("found", match.subject, round(match.similarity, 2))
        for face in client.faces("example"):
            print("stored", face.subject, face.created_at.date())
        receipt = client.delete_collection("example")
        print("deleted", receipt.faces)


if __name__ == "__main__":
    main(*sys.argv[1:])
