"""What holds for every test: hypothesis knows no deadline, since the machine may be busy with other tests."""

from hypothesis import settings

settings.register_profile("lake", deadline=None, print_blob=True)
settings.load_profile("lake")
