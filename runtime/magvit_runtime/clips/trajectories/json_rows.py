"""stub to come"""
def json_points(path, file, report):
    raise NotImplementedError
