"""`python -m consumers.labeler`; thin, because the decoding child passes through here when it starts."""

if __name__ == "__main__":
    from consumers.labeler.serve import main

    main()
